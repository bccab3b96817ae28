"""The data dictionary of a tenant: its tables and columns in words, for people to read."""
