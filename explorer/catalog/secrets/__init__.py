"""What is encrypted at rest: the keys, and the tenants' credentials."""
