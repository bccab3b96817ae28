"""Dagster over GraphQL, without importing it: `client` asks, `records` are what it answers, `documents/` the questions."""
