"""What a tenant's tables mean: its semantics, and its data dictionary as a file."""
