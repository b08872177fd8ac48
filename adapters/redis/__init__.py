"""Ports kept in Redis, so that all processes share them; each works without it, by what its process knows."""
