"""Bare as a provider."""

from explorer.providers.bare.provider import Bare

PROVIDER = Bare()
