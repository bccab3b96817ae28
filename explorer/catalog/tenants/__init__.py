"""Which tenants exist, their discovered structures and their semantic overlays."""
