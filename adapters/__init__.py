"""The outside world, one folder per kind; nothing here is imported by the core."""
