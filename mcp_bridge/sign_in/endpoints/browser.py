"""Is this the browser that began the sign-in? One cookie per sign-in, so that several tabs do not disturb each other.

The form's token is made of the cookie: another site can neither read the one nor guess the other.
"""

import hashlib
import hmac
import secrets
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from explorer.catalog.access.oauth_requests import REQUEST_S

_SECRET_BYTES = 32
# Browsers send all of them with each request. Those of sign-ins that were given up go first.
_MOST_COOKIES = 8


class Browser:
    """The cookies of sign-ins. `is_secure`: over https they belong to this host alone; over http, which only a loopback address
    has, browsers would refuse such cookies."""

    def __init__(self, *, is_secure: bool) -> None:
        self._secure = is_secure
        self._prefix = "__Host-dx-sign-in-" if is_secure else "dx-sign-in-"

    def secret_for(self, request: Request, id_: UUID) -> str | None:
        """The secret of the browser's cookie for this sign-in."""
        return request.cookies.get(self._name(id_))

    def new_secret(self) -> str:
        """A secret for `remember`."""
        return secrets.token_urlsafe(_SECRET_BYTES)

    def remember(self, request: Request, response: Response, id_: UUID, secret: str) -> None:
        """Set the cookie of a new sign-in."""
        others = [name for name in request.cookies if name.startswith(self._prefix)]
        for name in others[: max(0, len(others) - _MOST_COOKIES + 1)]:
            self._delete(response, name)
        self.keep(response, id_, secret)

    def keep(self, response: Response, id_: UUID, secret: str) -> None:
        """Set the cookie of a sign-in, for the time that it may take from now on."""
        response.set_cookie(
            self._name(id_), secret, max_age=REQUEST_S, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def forget(self, response: Response, id_: UUID) -> None:
        """Delete the cookie of a sign-in that has ended."""
        self._delete(response, self._name(id_))

    def _name(self, id_: UUID) -> str:
        return self._prefix + hashlib.sha256(id_.bytes).hexdigest()[:16]

    def _delete(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")


def form_token(secret: str) -> str:
    """The token of the forms of the sign-in whose cookie has this secret."""
    return hashlib.sha256(f"form\n{secret}".encode()).hexdigest()


def is_form_of(token: str, secret: str) -> bool:
    """Whether a form was made for this browser."""
    return hmac.compare_digest(token.encode(), form_token(secret).encode())
