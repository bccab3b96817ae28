"""Clients of the systems that the bridge needs (Dagster over GraphQL, tenant databases as the loader), and their timeouts."""
