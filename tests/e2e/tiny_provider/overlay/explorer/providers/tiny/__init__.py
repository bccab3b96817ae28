"""Tiny as a provider."""

from explorer.providers.tiny.provider import Tiny

PROVIDER = Tiny()
