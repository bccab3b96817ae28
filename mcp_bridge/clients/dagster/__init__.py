"""Dagster over GraphQL, without importing it: `client` has the calls, `records` the answers, `documents/` the queries."""
