"""Which tenants there are, what was discovered of them and what their admins say their tables mean."""
