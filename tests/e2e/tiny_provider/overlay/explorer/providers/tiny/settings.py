"""Tiny's names and addresses."""

from explorer.http.api import Service

SERVICE = Service(
    name="tiny",
    product="Tiny",
    unit="garden",
    unit_field="garden",
    credential="token",
    credential_parts="the token",
    example_url="https://tiny.example.org",
    token_path="",
    refresh_lifetime="",
)
