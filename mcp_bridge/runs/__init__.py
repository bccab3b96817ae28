"""Runs of a tenant: launch exactly one, follow it, summarize its log, read its results."""
