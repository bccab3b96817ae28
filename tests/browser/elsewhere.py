"""The other servers that a browser meets: a program that waits for its answer, a hostile site, an organisation's provider.

All are one server. Its name `localhost` is another site than the bridge's 127.0.0.1, and 127.0.0.1 with its port the same site
but another origin.
"""

import html
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT = "data-explorer"
# Who has an account at the organisation, and their groups.
PEOPLE = {"olga": ["operators"], "vera": ["viewers"], "nils": []}


@dataclass
class Elsewhere:
    """`arrived`: what the program got at `/callback`; `planted`: the hostile page's content; `groups`: of the organisation's
    people now; without an entry their sign-in has ended."""

    port: int = 0
    arrived: list[dict[str, list[str]]] = field(default_factory=list)
    planted: str = ""
    groups: dict[str, list[str]] = field(default_factory=lambda: dict(PEOPLE))
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    _codes: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    @property
    def callback(self) -> str:
        return f"http://localhost:{self.port}/callback"

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/acme"

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/callback", self._callback),
                Route("/planted", self._planted),
                Route("/acme/.well-known/openid-configuration", self._discovery),
                Route("/acme/keys", self._keys),
                Route("/acme/authorize", self._authorize),
                Route("/acme/in", self._signed_in),
                Route("/acme/token", self._token, methods=["POST"]),
            ]
        )

    async def _callback(self, request: Request) -> Response:
        self.arrived.append({name: request.query_params.getlist(name) for name in request.query_params})
        return HTMLResponse("<!doctype html><title>Done</title><h1>The program has its answer</h1>")

    async def _planted(self, _: Request) -> Response:
        return HTMLResponse(f"<!doctype html><title>Cats</title>{self.planted}")

    async def _discovery(self, _: Request) -> Response:
        places = {name: f"{self.issuer}/{path}" for name, path in (("authorization_endpoint", "authorize"),
                  ("token_endpoint", "token"), ("jwks_uri", "keys"))}  # fmt: skip
        return JSONResponse({"issuer": self.issuer, **places})

    async def _keys(self, _: Request) -> Response:
        public = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return JSONResponse({"keys": [{**public, "kid": "one", "use": "sig"}]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        links = "".join(
            f'<p><a href="in?{html.escape(urlencode({**asked, "who": who}))}">{who}</a></p>' for who in self.groups
        )
        return HTMLResponse(f"<!doctype html><title>Acme</title><h1>Who are you?</h1>{links}")

    async def _signed_in(self, request: Request) -> Response:
        asked, code = request.query_params, secrets.token_hex(8)
        self._codes[code] = (asked["who"], asked["nonce"])
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 303)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        who, nonce = self._codes.pop(str(form.get("code") or form.get("refresh_token")), ("", None))
        if who not in self.groups:
            return JSONResponse({"error": "invalid_grant"}, 400)
        refresh, now = secrets.token_hex(8), int(time.time())
        self._codes[refresh] = (who, None)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": f"id of {who}",
            "iat": now,
            "exp": now + 300,
        }
        claims |= {"preferred_username": who, "groups": self.groups[who]} | ({"nonce": nonce} if nonce else {})
        token = jwt.encode(claims, self._key, "RS256", {"kid": "one"})
        return JSONResponse({"access_token": "opaque", "id_token": token, "refresh_token": refresh})


@contextmanager
def open_elsewhere() -> Iterator[Elsewhere]:
    """The servers, on one port."""
    found, bound = Elsewhere(), socket.create_server(("127.0.0.1", 0))
    found.port = bound.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(found.app(), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.should_exit = True
        thread.join(20)
