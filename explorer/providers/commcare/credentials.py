"""How does one log in to CommCare HQ? With a user's API key, or with an OAuth grant that is renewed."""

from collections.abc import Mapping

from explorer.catalog import ApiKeyCredential, Credential, OAuthCredential
from explorer.providers.base import CredentialField, CredentialKind
from explorer.providers.commcare.settings import SERVICE


def _api_key(server: str, values: Mapping[str, str]) -> Credential:
    return ApiKeyCredential(values["username"], values["api_key"])


def _oauth(server: str, values: Mapping[str, str]) -> Credential:
    return OAuthCredential(
        client_id=values["client_id"],
        client_secret=values.get("client_secret", ""),
        token_url=values.get("token_url") or f"{server}{SERVICE.token_path}",
        access_token="",
        refresh_token=values["refresh_token"],
    )


KINDS = (
    CredentialKind(
        "api_key",
        "API key",
        (CredentialField("username", "User name"), CredentialField("api_key", "API key", is_secret=True)),
        _api_key,
    ),
    CredentialKind(
        "oauth",
        "OAuth grant",
        (
            CredentialField("client_id", "Client id"),
            CredentialField("refresh_token", "Refresh token", is_secret=True),
            CredentialField("client_secret", "Client secret", is_secret=True, needed_unless="the client is public"),
            CredentialField("token_url", "Token endpoint", needed_unless=""),
        ),
        _oauth,
    ),
)
