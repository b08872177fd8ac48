"""Use cases; they know the domain and its ports, never an adapter."""
