"""The ledger in SQL: accounts, holds and transfers, written in batches that commit together."""
