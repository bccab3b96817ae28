"""How commands speak: to terminals, in tables, as JSON, while something goes on."""
