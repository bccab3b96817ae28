"""OAuth codes, access tokens and refresh tokens.

The code grant with PKCE and the refresh-token grant of `/oauth/token/` with rotation (each refresh token works once), revocation,
and the RFC 8414 metadata document. Everything is kept in memory. `auth` decides what a token allows.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo_commcare.sign_in.accounts import Accounts
from demo_commcare.world import DEMO_USERNAME

SCOPES = ("access_apis", "reports:view", "mobile_access", "sync")
# The bridge's callback on this machine, whatever its port.
REDIRECT_URIS = ("http://127.0.0.1/oauth/callback/demo",)
_CODE_LIFETIME_S = 60.0


@dataclass(frozen=True)
class Grant:
    """What a person allowed the client."""

    username: str
    scopes: frozenset[str]

    @property
    def domains(self) -> frozenset[str]:
        """The project spaces of the `domain:<name>` scopes; empty: no limit."""
        return frozenset(scope.removeprefix("domain:") for scope in self.scopes if scope.startswith("domain:"))

    def allows(self, domain: str) -> bool:
        return not self.domains or domain in self.domains


@dataclass(frozen=True)
class Code:
    """An authorization code. `challenge`: of PKCE, empty where the client sent none."""

    grant: Grant
    redirect_uri: str
    challenge: str
    expires_at: float


@dataclass(frozen=True)
class AccessToken:
    grant: Grant
    expires_at: float


class TokenStore:
    """Client registration, codes, access tokens and refresh tokens."""

    def __init__(self, accounts: Accounts, access_lifetime_s: float = 900.0, client_secret: str | None = None) -> None:
        self.client_id = "demo-client" if client_secret else "demo-client-" + secrets.token_hex(6)
        self.client_secret = client_secret or secrets.token_urlsafe(24)
        self.redirect_uris = set(REDIRECT_URIS)
        self.access_lifetime_s = access_lifetime_s
        self._accounts = accounts
        self._codes: dict[str, Code] = {}
        self._access: dict[str, AccessToken] = {}
        # By refresh token: the grant, and the access token issued with it.
        self._refresh: dict[str, tuple[Grant, str]] = {}

    def issue_refresh_token(self, *domains: str, username: str = DEMO_USERNAME) -> str:
        """Issue a refresh token for `access_apis`, limited to `domains` if any are given."""
        token = secrets.token_urlsafe(30)
        self._refresh[token] = (
            Grant(username, frozenset({"access_apis", *(f"domain:{name}" for name in domains)})),
            "",
        )
        return token

    def issue_code(self, grant: Grant, redirect_uri: str, challenge: str) -> str:
        code = secrets.token_urlsafe(24)
        self._codes[code] = Code(grant, redirect_uri, challenge, time.monotonic() + _CODE_LIFETIME_S)
        return code

    def exchange(self, code: str, redirect_uri: str, verifier: str) -> "Issued | None":
        """The tokens of a code, which any attempt uses up."""
        found = self._codes.pop(code, None)
        if found is None or found.expires_at < time.monotonic() or found.redirect_uri != redirect_uri:
            return None
        if found.challenge and not hmac.compare_digest(s256(verifier).encode(), found.challenge.encode()):
            return None
        return self._issue(found.grant)

    def refresh(self, token: str) -> "Issued | None":
        """Use up a refresh token and the access token issued with it. None if it is unknown or used, or its person
        deactivated."""
        grant, access = self._refresh.pop(token, (None, ""))
        self._access.pop(access, None)
        return None if grant is None or self._accounts.active(grant.username) is None else self._issue(grant)

    def revoke(self, token: str) -> None:
        """Forget an access token or a refresh token, and the access token issued with it."""
        self._access.pop(token, None)
        _, access = self._refresh.pop(token, (None, ""))
        self._access.pop(access, None)

    def check(self, token: str) -> Grant | None:
        """The grant of an access token whose person is active."""
        found = self._access.get(token)
        if found is None or found.expires_at <= time.monotonic() or self._accounts.active(found.grant.username) is None:
            return None
        return found.grant

    def expire_access_tokens(self) -> None:
        self._access.clear()

    def revoke_refresh_tokens(self) -> None:
        self._refresh.clear()

    def is_client(self, client_id: str, secret: str) -> bool:
        same_id = hmac.compare_digest(client_id.encode(), self.client_id.encode())
        return hmac.compare_digest(secret.encode(), self.client_secret.encode()) and same_id

    def is_redirect_uri(self, uri: str) -> bool:
        """Whether the address is registered. A registered loopback address without a port stands for all ports, as in HQ's
        library (RFC 8252)."""
        if uri in self.redirect_uris:
            return True
        try:
            parts = urlsplit(uri)
            has_port = parts.port is not None
        except ValueError:
            return False
        host = parts.hostname or ""
        loopback = parts.scheme == "http" and host in ("127.0.0.1", "::1") and parts.username is None
        without_port = urlunsplit((parts.scheme, _host(host), parts.path, parts.query, parts.fragment))
        return loopback and has_port and without_port in self.redirect_uris

    def _issue(self, grant: Grant) -> "Issued":
        access, refresh = secrets.token_urlsafe(30), secrets.token_urlsafe(30)
        self._access[access] = AccessToken(grant, time.monotonic() + self.access_lifetime_s)
        self._refresh[refresh] = (grant, access)
        return Issued(access, refresh, grant.scopes)


@dataclass(frozen=True)
class Issued:
    access: str
    refresh: str
    scopes: frozenset[str]


async def token_endpoint(request: Request, tokens: TokenStore) -> Response:
    """RFC 6749 §4.1.3 and §6."""
    form = await _form(request)
    if not _is_client(request, form, tokens):
        return JSONResponse({"error": "invalid_client"}, 401)
    kind = form.get("grant_type")
    if kind == "authorization_code":
        issued = tokens.exchange(form.get("code", ""), form.get("redirect_uri", ""), form.get("code_verifier", ""))
    elif kind == "refresh_token":
        issued = tokens.refresh(form.get("refresh_token", ""))
    else:
        return JSONResponse({"error": "unsupported_grant_type"}, 400)
    if issued is None:
        return JSONResponse({"error": "invalid_grant"}, 400)
    answer = {
        "access_token": issued.access,
        "expires_in": int(tokens.access_lifetime_s),
        "token_type": "Bearer",
        "scope": " ".join(sorted(issued.scopes)),
        "refresh_token": issued.refresh,
    }
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def revoke_endpoint(request: Request, tokens: TokenStore) -> Response:
    """RFC 7009: an unknown token is no error."""
    form = await _form(request)
    if not _is_client(request, form, tokens):
        return JSONResponse({"error": "invalid_client"}, 401)
    tokens.revoke(form.get("token", ""))
    return Response()


def s256(verifier: str) -> str:
    """The PKCE challenge of a verifier."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


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


async def _form(request: Request) -> dict[str, str]:
    return {key: str(value) for key, value in (await request.form()).items()}


def _is_client(request: Request, form: Mapping[str, str], tokens: TokenStore) -> bool:
    """Client credentials in the body or by HTTP Basic."""
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        client_id, _, secret = base64.b64decode(credentials).decode("utf-8", "replace").partition(":")
    return tokens.is_client(client_id, secret)


def _host(name: str) -> str:
    return f"[{name}]" if ":" in name else name
