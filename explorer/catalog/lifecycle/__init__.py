"""How tenants and their schemas come, change and go."""
