"""OAuth access tokens and refresh tokens.

The refresh-token grant of `/oauth/token/` with rotation (each refresh token works once) and the RFC 8414 metadata
document. Tokens are kept in memory. `auth` decides what a token allows.
"""

import base64
import hmac
import secrets
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

SCOPES = ("access_apis", "reports:view", "mobile_access", "sync")


@dataclass(frozen=True)
class AccessToken:
    scopes: frozenset[str]
    expires_at: float

    def allows(self, domain: str) -> bool:
        """Whether the `domain:<name>` scopes, if there are any, include this domain."""
        limited = {scope.removeprefix("domain:") for scope in self.scopes if scope.startswith("domain:")}
        return not limited or domain in limited


class TokenStore:
    """Client registration, access tokens and refresh tokens of the demo user."""

    def __init__(self, access_lifetime_s: float = 900.0) -> None:
        self.client_id = "demo-client-" + secrets.token_hex(6)
        self.client_secret = secrets.token_urlsafe(24)
        self.access_lifetime_s = access_lifetime_s
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, frozenset[str]] = {}

    def issue_refresh_token(self, *domains: str) -> str:
        """Issue a refresh token for `access_apis`, limited to `domains` if any are given."""
        token = secrets.token_urlsafe(30)
        self._refresh[token] = frozenset({"access_apis", *(f"domain:{name}" for name in domains)})
        return token

    def refresh(self, token: str) -> tuple[str, str, frozenset[str]] | None:
        """Use up a refresh token: (access token, next refresh token, scopes), or None if the token is unknown or used."""
        scopes = self._refresh.pop(token, None)
        if scopes is None:
            return None
        access, following = secrets.token_urlsafe(30), secrets.token_urlsafe(30)
        self._access[access] = AccessToken(scopes, time.monotonic() + self.access_lifetime_s)
        self._refresh[following] = scopes
        return access, following, scopes

    def check(self, token: str) -> AccessToken | None:
        found = self._access.get(token)
        return found if found is not None and found.expires_at > time.monotonic() else None

    def expire_access_tokens(self) -> None:
        self._access.clear()

    def revoke_refresh_tokens(self) -> None:
        self._refresh.clear()

    def is_client(self, client_id: str, secret: str) -> bool:
        same_id = hmac.compare_digest(client_id.encode(), self.client_id.encode())
        return hmac.compare_digest(secret.encode(), self.client_secret.encode()) and same_id


async def token_endpoint(request: Request, tokens: TokenStore) -> Response:
    """RFC 6749 §6: client credentials in the body or by HTTP Basic."""
    form = {key: str(value) for key, value in (await request.form()).items()}
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        client_id, _, secret = base64.b64decode(credentials).decode("utf-8", "replace").partition(":")
    if not tokens.is_client(client_id, secret):
        return JSONResponse({"error": "invalid_client"}, 401)
    if form.get("grant_type") != "refresh_token":
        return JSONResponse({"error": "unsupported_grant_type"}, 400)
    granted = tokens.refresh(form.get("refresh_token", ""))
    if granted is None:
        return JSONResponse({"error": "invalid_grant"}, 400)
    access, refresh, scopes = granted
    answer = {
        "access_token": access,
        "expires_in": int(tokens.access_lifetime_s),
        "token_type": "Bearer",
        "scope": " ".join(sorted(scopes)),
        "refresh_token": refresh,
    }
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def metadata(root: str) -> dict[str, object]:
    """The authorization-server metadata document of RFC 8414."""
    return {
        "issuer": root,
        "authorization_endpoint": f"{root}/oauth/authorize/",
        "token_endpoint": f"{root}/oauth/token/",
        "revocation_endpoint": f"{root}/oauth/revoke_token/",
        "introspection_endpoint": f"{root}/oauth/introspect/",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": list(SCOPES),
    }
