"""Bare's names."""

from explorer.http.api import Service

SERVICE = Service(
    name="bare",
    product="Bare",
    unit="site",
    unit_field="site",
    credential="key",
    credential_parts="the key",
    example_url="https://bare.example.org",
    token_path="",
    refresh_lifetime="",
)
