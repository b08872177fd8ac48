"""The history of the schema; it imports no application code."""
