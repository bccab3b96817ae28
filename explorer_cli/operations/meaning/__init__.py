"""What a tenant's tables mean, and what is kept of them: semantics, saved models, its data dictionary as a file."""
