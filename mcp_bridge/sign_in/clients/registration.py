"""Clients that register themselves (RFC 7591), for hosts that publish no document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp_bridge.sign_in import redirects
from mcp_bridge.sign_in.settings_file import Clients

_MAX_NAME = 100
_MAX_URIS = 20


class RegistrationRefused(ValueError):
    """`error`: the code of RFC 7591; `args[0]`: why."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True)
class Wanted:
    """What is registered of a request."""

    name: str
    redirect_uris: tuple[str, ...]
    application_type: str | None

    def answer(self, client_id: str, issued_at: int) -> dict[str, Any]:
        """The client's information. Whoever asked for a secret gets none, as the standard permits."""
        told: dict[str, Any] = {
            "client_id": client_id,
            "client_id_issued_at": issued_at,
            "client_name": self.name,
            "redirect_uris": list(self.redirect_uris),
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
        if self.application_type is not None:
            told["application_type"] = self.application_type
        return told


def registered(client: Mapping[str, Any], policy: Clients) -> Wanted:
    """What of a client's metadata is registered: those of its redirect URIs that the policy allows.

    Raises:
        RegistrationRefused
    """
    uris = client.get("redirect_uris")
    if not isinstance(uris, list) or not uris or len(uris) > _MAX_URIS or not all(isinstance(uri, str) for uri in uris):
        raise RegistrationRefused(
            "invalid_redirect_uri", f"redirect_uris must be a list of 1 to {_MAX_URIS} addresses."
        )
    allowed = tuple(dict.fromkeys(uri for uri in uris if redirects.is_allowed(uri, policy)))
    if not allowed:
        own = ["a loopback address"] if policy.loopback else []
        raise RegistrationRefused(
            "invalid_redirect_uri",
            "None of redirect_uris is allowed here. Use " + ", ".join([*own, *sorted(policy.redirect_hosts)]) + ".",
        )
    for field, needed in (("grant_types", "authorization_code"), ("response_types", "code")):
        values = client.get(field)
        if values is not None and not (isinstance(values, list) and needed in values):
            raise RegistrationRefused("invalid_client_metadata", f"{field} must contain {needed}.")
    name, kind = client.get("client_name"), client.get("application_type")
    plain = " ".join(name.split())[:_MAX_NAME] if isinstance(name, str) else ""
    return Wanted(plain or "A program without a name", allowed, kind if kind in ("web", "native") else None)
