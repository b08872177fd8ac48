"""How bytes travel: HTTP sessions and event streams."""
