"""The Dagster code location: what runs when, and for which tenant? `definitions` is its table of contents."""
