"""How CommCare's applications and records become tables: one per case type, form and repeat group."""
