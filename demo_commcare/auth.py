"""Decides whether a request may see a domain and a resource, and refuses it with HQ's own answer.

The order of the checks and the bodies (mostly empty) follow HQ's decorators; see the error catalogue in the README.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from demo_commcare.sign_in.accounts import Accounts
from demo_commcare.sign_in.oauth import Grant, TokenStore
from demo_commcare.world import DEMO_USERNAME, World

Style = Literal["tastypie", "view"]
NO_SUBSCRIPTION_TEXT = "Your current subscription does not have access to this feature"
CUT_OFF_TEXT = (
    "API access has been temporarily cut off due to too many requests.  To re-enable, please contact support."
)
FORBIDDEN_PAGE = (
    "<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body><h1>You do not have access</h1></body></html>"
)


@dataclass
class Access:
    """The permissions. `denied` holds (domain, resource) pairs, `cut_off` domains that used the API too much; `api_keys`: by
    username."""

    world: World
    accounts: Accounts
    tokens: TokenStore
    api_keys: dict[str, str] = field(repr=False)
    denied: set[tuple[str, str]] = field(default_factory=set)
    cut_off: set[str] = field(default_factory=set)

    def caller(self, request: Request) -> Grant | None:
        """Who asks, and what their token allows; an API key's owner may everything that is theirs."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.tokens.check(rest.strip())
        owner = self._key_owner(rest, request, in_query=True)
        is_active = owner is not None and self.accounts.active(owner) is not None
        return Grant(owner, frozenset({"access_apis"})) if owner and is_active else None

    def refuse(self, request: Request, domain: str, resource: str, style: Style = "tastypie") -> Response | None:
        """The refusal, or None when the request may go on. Case v2 is a plain `view`; everything else is tastypie."""
        project = self.world.projects.get(domain)
        if project is not None and not project.subscribed:
            return JSONResponse({"error": NO_SUBSCRIPTION_TEXT}, 401)
        if domain in self.cut_off:
            return JSONResponse({"error": CUT_OFF_TEXT}, 401)
        refusal = self._authenticate(request, domain, style)
        if refusal is not None:
            return refusal
        if project is None and style == "view":
            return JSONResponse({"error": f'The domain "{domain}" was not found.'}, 404)
        caller = self.caller(request)
        username = DEMO_USERNAME if caller is None else caller.username
        if (
            project is None
            or username not in project.members
            or (domain, resource) in self.denied
            or not self.accounts.may(username, project, resource)
        ):
            return HTMLResponse(FORBIDDEN_PAGE, 403) if style == "view" else Response(status_code=403)
        return None

    def _authenticate(self, request: Request, domain: str, style: Style) -> Response | None:
        header = request.headers.get("authorization", "")
        scheme, _, rest = header.partition(" ")
        scheme = scheme.lower()
        if scheme == "bearer":
            return self._bearer(rest.strip(), domain, style)
        if scheme == "basic":
            return self._basic(rest)
        in_query = style == "tastypie"
        if scheme != "digest" and self._key_owner(rest, request, in_query) is not None:
            return None
        if header and scheme != "digest":
            return Response(status_code=401)
        challenge = 'Digest realm="DJANGO", qop="auth", nonce="4f1c2b", opaque="8a61", algorithm="MD5", stale="false"'
        return Response(status_code=401, headers={"WWW-Authenticate": challenge})

    def _bearer(self, token: str, domain: str, style: Style) -> Response | None:
        found = self.tokens.check(token)
        if found is None or "access_apis" not in found.scopes:
            return Response(status_code=401)
        if not found.allows(domain):
            return HTMLResponse(FORBIDDEN_PAGE, 403) if style == "view" else Response(status_code=403)
        return None

    def _basic(self, credentials: str) -> Response:
        """The demo user has two-factor authentication, so a password alone never suffices."""
        try:
            username = base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            username = ""
        if username != DEMO_USERNAME:
            return Response(status_code=401, headers={"WWW-Authenticate": 'Basic realm=""'})
        return JSONResponse({"error": "must send X-COMMCAREHQ-OTP header or 'otp' URL parameter"}, 401)

    def _key_owner(self, credentials: str, request: Request, in_query: bool) -> str | None:
        """The username that the API key belongs to; None for anything else."""
        username, _, key = credentials.strip().partition(":")
        if not username and in_query:
            username, key = request.query_params.get("username", ""), request.query_params.get("api_key", "")
        username = username.lower()
        right = self.api_keys.get(username, "")
        return username if right and hmac.compare_digest(key.encode(), right.encode()) else None
