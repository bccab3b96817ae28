"""What is encrypted at rest: the keys, and how tenants log in to their servers."""
