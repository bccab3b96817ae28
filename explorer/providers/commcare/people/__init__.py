"""Whose account is it: a credential's owner, and people who sign in."""
