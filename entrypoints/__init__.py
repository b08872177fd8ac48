"""How the world reaches the application: HTTP, command line, worker."""
