"""Which people does an organisation's identity provider let into the UI? They sign in at the bridge, which is asked again while
they work.

The webserver is a client of the bridge's authorization server. The browser keeps the token of its session, which opens nothing
else.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import httpx
from starlette.datastructures import QueryParams
from starlette.responses import RedirectResponse, Response

from explorer.contract.headers import UI_CLIENT, UI_RETURN_PATH
from explorer.core.tls import tls_context
from explorer_dagster.webserver.graphql_request import Refused
from explorer_dagster.webserver.sessions import cookie_value

SIGN_IN_PATH = "/session/sign-in"
NOT_KEPT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
# So long an answer of the bridge counts: who was let in before, or was not.
COUNTS_S = 5.0
_MOST_ANSWERS = 10_000
_TIMEOUT_S = 10.0
_SIGN_IN_S = 600
_OPERATE = "ui:operate"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """Who signed in. `name`: as in the audit; `may_change`: whether the role allows more than looking."""

    name: str
    may_change: bool


class People:
    """Sessions of people who signed in.

    `address`: of the UI, for browsers; `bridge`: the address of the bridge, None while that is not known; `inner`: that by which
    we reach it, where it is another one. `transport` replaces the network; `now`: seconds.
    """

    def __init__(
        self,
        address: str,
        bridge: Callable[[], str | None],
        *,
        inner: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(address)
        self._address, self._host = address.rstrip("/"), parts.netloc
        self._bridge, self._inner, self._transport, self._now = bridge, inner, transport, now
        self._session_cookie, self._leaving_cookie = (
            f"explorer_ui_{name}_{parts.port or 443}" for name in ("person", "way")
        )
        self._cookie: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": parts.scheme == "https"}
        self._answers: dict[bytes, tuple[float, Person | None]] = {}
        # A page sends many requests at once: they share a question.
        self._running: dict[bytes, asyncio.Future[Person | None]] = {}

    def leave(self, host: str) -> Response:
        """Send the browser, which came to `host`, to sign in. Raises: Refused: nobody knows where."""
        if host != self._host:
            # Cookies belong to a host, and the way back leads to this one.
            return RedirectResponse(f"{self._address}{SIGN_IN_PATH}", 303, headers=NOT_KEPT)
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": UI_CLIENT,
            "redirect_uri": f"{self._address}{UI_RETURN_PATH}",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        away = RedirectResponse(f"{self._origin()}/oauth/authorize?{urlencode(asked)}", 303, headers=NOT_KEPT)
        away.set_cookie(
            self._leaving_cookie, f"{state}.{verifier}", max_age=_SIGN_IN_S, path="/session/", **self._cookie
        )
        return away

    async def returned(self, answer: QueryParams, cookies: str) -> Response:
        """Open the session of a browser that comes back from where `leave` sent it. Raises: Refused."""
        state, _, verifier = cookie_value(cookies, self._leaving_cookie).rpartition(".")
        if not state or not secrets.compare_digest(state.encode(), answer.get("state", "").encode()):
            raise Refused("the sign-in was begun in another browser, or too long ago", 401)
        if "code" not in answer:
            raise Refused("you did not sign in", 401)
        given = await self._asked(
            "token",
            grant_type="authorization_code",
            client_id=UI_CLIENT,
            code=answer["code"],
            redirect_uri=f"{self._address}{UI_RETURN_PATH}",
            code_verifier=verifier,
        )
        if not isinstance(token := given.get("access_token"), str):
            raise Refused("the sign-in is not confirmed", 401)
        opened = RedirectResponse("/", 303, headers=NOT_KEPT)
        opened.set_cookie(self._session_cookie, token, max_age=int(given.get("expires_in", 0)), **self._cookie)
        opened.delete_cookie(self._leaving_cookie, path="/session/", **self._cookie)
        return opened

    async def who(self, cookies: str) -> Person | None:
        """The person of a `Cookie` header, while the bridge lets them in. Raises: Refused: it does not answer."""
        token = cookie_value(cookies, self._session_cookie)
        if not token:
            return None
        place, now = hashlib.sha256(token.encode(errors="replace")).digest(), self._now()
        asked_at, person = self._answers.get(place, (-COUNTS_S, None))
        if now - asked_at >= COUNTS_S:
            running = self._running.get(place)
            if running is None:
                running = self._running[place] = asyncio.ensure_future(self._asked_who(place, token, now))
                running.add_done_callback(lambda _: self._running.pop(place, None))
            # One of those who wait may go away.
            person = await asyncio.shield(running)
        return person

    async def _asked_who(self, place: bytes, token: str, now: float) -> Person | None:
        given = await self._asked("introspect", token=token)
        name, is_active = given.get("username"), given.get("active") is True
        person = Person(name, given.get("scope") == _OPERATE) if is_active and isinstance(name, str) else None
        if len(self._answers) >= _MOST_ANSWERS:
            self._answers.clear()
        self._answers[place] = (now, person)
        return person

    async def close(self, cookies: str, response: Response) -> None:
        """End the session of a `Cookie` header, in `response` too. Raises: Refused: the bridge does not answer."""
        token = cookie_value(cookies, self._session_cookie)
        if token:
            await self._asked("revoke", client_id=UI_CLIENT, token=token)
            self._answers.pop(hashlib.sha256(token.encode(errors="replace")).digest(), None)
            response.delete_cookie(self._session_cookie, **self._cookie)

    async def _asked(self, endpoint: Literal["token", "introspect", "revoke"], **form: str) -> dict[str, Any]:
        """The bridge's answer; `{}` for a refusal. Raises: Refused: it does not answer."""
        public = self._origin()
        at = f"{(self._inner or public).rstrip('/')}/oauth/{endpoint}"
        try:
            # By whichever way, the bridge is asked by its own name: it refuses others.
            headers = {"Host": httpx.URL(public).netloc.decode("ascii")}
            async with httpx.AsyncClient(
                transport=self._transport, timeout=_TIMEOUT_S, trust_env=False, verify=tls_context()
            ) as client:
                answer = await client.post(at, data=form, headers=headers)
            if answer.status_code in (400, 401):
                return {}
            answer.raise_for_status()
            found = answer.json() if answer.content else {}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            _log.warning("The bridge does not tell who may open the UI (%s): %s", endpoint, error)
            raise Refused("the bridge, which knows the people, does not answer", 503) from None
        return found if isinstance(found, dict) else {}

    def _origin(self) -> str:
        parts = urlsplit(self._bridge() or "")
        if not parts.netloc:
            raise Refused("the bridge, which knows the people, is not running", 503)
        return f"{parts.scheme}://{parts.netloc}"
