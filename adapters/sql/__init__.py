"""Storage on PostgreSQL and, as the embedded default, SQLite."""
