"""Tiny's only credential, a token."""

from collections.abc import Mapping

from explorer.catalog import Credential, FieldsCredential
from explorer.providers.base import CredentialField, CredentialKind


def _token(server: str, values: Mapping[str, str]) -> Credential:
    return FieldsCredential("token", dict(values))


KINDS = (CredentialKind("token", "Token", (CredentialField("token", "Token", is_secret=True),), _token),)
