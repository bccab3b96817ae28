"""Sessions of browsers at the Dagster UI: opened by a link that works once, ended by time, never the master token.

A session is a signed text that holds only its end, so that it survives a restart of the webserver; a new token of the webserver
ends all of them. Cookies know no ports: other servers of this machine see the cookie too, which is why it is no more than a
session, and named after the port.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

LINK_LASTS_S = 120.0
_MAX_LINKS = 100


class Sessions:
    """Makes links and checks cookies. `key`: the webserver's token; `lasts_s`: length of a session; `now`: seconds since 1970."""

    def __init__(self, key: str, *, port: int, lasts_s: float, now: Callable[[], float] = time.time) -> None:
        self.cookie_name = f"explorer_ui_{port}"
        self.lasts_s = lasts_s
        self._key = hmac.digest(key.encode(), b"sessions of the UI", "sha256")
        self._now = now
        # Hash of each unused link to its end. In this process only: a link belongs to the webserver that made it.
        self._links: dict[bytes, float] = {}
        self._closed: dict[str, float] = {}

    def new_link(self) -> str:
        """A secret that opens one session, within two minutes."""
        self._forget()
        while len(self._links) >= _MAX_LINKS:
            del self._links[next(iter(self._links))]
        secret = secrets.token_urlsafe(32)
        self._links[_hash(secret)] = self._now() + LINK_LASTS_S
        return secret

    def open(self, secret: str) -> str | None:
        """A new session for a link's secret, which works only once. None: unknown, used or too late."""
        ends_at = self._links.pop(_hash(secret), 0.0)
        if ends_at <= self._now():
            return None
        return self._signed(f"{secrets.token_urlsafe(12)}.{int(self._now() + self.lasts_s)}")

    def is_open(self, cookies: str) -> bool:
        """Whether a `Cookie` header holds a session that has not ended."""
        session = self._session(cookies)
        said = session.rpartition(".")[0]
        is_ours = hmac.compare_digest(session.encode(), self._signed(said).encode())
        return is_ours and float(said.rpartition(".")[2]) > self._now() and session not in self._closed

    def close(self, cookies: str) -> None:
        """End the session of a `Cookie` header, before its time."""
        if self.is_open(cookies):
            self._forget()
            self._closed[self._session(cookies)] = self._now() + self.lasts_s

    def _session(self, cookies: str) -> str:
        return cookie_value(cookies, self.cookie_name)

    def _signed(self, said: str) -> str:
        return f"{said}.{hmac.new(self._key, said.encode(), 'sha256').hexdigest()}"

    def _forget(self) -> None:
        now = self._now()
        self._links = {link: end for link, end in self._links.items() if end > now}
        self._closed = {session: end for session, end in self._closed.items() if end > now}


def cookie_value(cookies: str, name: str) -> str:
    """The value of a cookie in a `Cookie` header; empty when there is none."""
    try:
        morsel = SimpleCookie(cookies).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
