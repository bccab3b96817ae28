"""A bridge where people sign in, in the test's own process, and the people: an identity provider that speaks the seam."""

import asyncio
import re
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import uvicorn

from explorer.catalog import ApiKeyCredential, Catalog, Scope, SignedInPrincipal, Tenant, UiRole, migrate
from explorer.catalog.access.oauth_grants import s256
from explorer.core.settings import Settings
from explorer.providers import faults_of, provider_named
from explorer.tenants import add_tenant
from mcp_bridge.composition import Parts, Services
from mcp_bridge.server import http_app
from mcp_bridge.sign_in.clients.documents import Documents
from mcp_bridge.sign_in.identity import (
    Identity,
    Keep,
    Memberships,
    ProviderTokens,
    ProviderUnavailable,
    SignedIn,
    SignInFailed,
    Unavailable,
)
from mcp_bridge.sign_in.server import SignInParts
from mcp_bridge.sign_in.settings_file import Clients
from tests.conftest import PgServer
from tests.unasked import Unasked

READING = frozenset({Scope.METADATA_READ, Scope.QUERY_RUN})
WORKING = READING | {Scope.RUNS_LAUNCH, Scope.RUNS_CANCEL}
CALLBACK = "http://localhost:4711/callback"
VERIFIER = "v" * 43
UI, UI_SESSION_S = "https://dagster.example.org", 7200
# Made once: it takes longer than most tests.
TLS = ssl.create_default_context()
ADDRESSES = ip_network("198.18.0.0/15").hosts()
DOCUMENT_URL = "https://host.example.org/client.json"


@dataclass
class FakeProvider:
    """Signs in whoever is `person` at the moment, without asking. Codes are good once."""

    name: str = "www"
    title: str = "Health server"
    person: str = "jane"
    rights: dict[str, dict[str, frozenset[Scope]]] = field(default_factory=dict)
    unavailable: tuple[Unavailable, ...] = ()
    refuses: bool = False
    codes: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    ui: UiRole | None = None
    opens_ui: bool = True

    async def authorize_url(self, *, redirect_uri: str, state: str, challenge: str, nonce: str) -> str:
        given = {"redirect_uri": redirect_uri, "state": state, "challenge": challenge, "nonce": nonce}
        return f"https://health.example.org/authorize?{urlencode(given)}"

    def comes_back(self, address: str) -> str:
        """Where the provider sends the browser that came to `address`."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        code = secrets.token_hex(8)
        self.codes[code] = (self.person, asked["challenge"], asked["nonce"])
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    async def sign_in(self, *, code: str, verifier: str, nonce: str, redirect_uri: str) -> SignedIn:
        person, challenge, sent = self.codes.pop(code, ("", "", ""))
        if (
            self.refuses
            or challenge != s256(verifier)
            or sent != nonce
            or not redirect_uri.endswith(f"/callback/{self.name}")
        ):
            raise SignInFailed("Your account is not active.", next_step="Ask your administrator.")
        tokens = ProviderTokens(f"access of {person}", f"refresh of {person}", None)
        identity = Identity(self.name, f"id of {person}", f"{person}@example.org")
        return SignedIn(identity, tokens, await self.memberships(identity, tokens, lambda _: None))

    async def memberships(self, identity: Identity, tokens: ProviderTokens, keep: Keep) -> Memberships:
        return Memberships(self.rights.get(identity.username.partition("@")[0], {}), self.unavailable, self.ui)


@dataclass
class FakeMembership:
    """Lets everybody pass, unless told otherwise. `asked`: for whom."""

    asked: list[SignedInPrincipal] = field(default_factory=list)
    ended: bool = False
    is_down: bool = False

    async def current(self, principal: SignedInPrincipal) -> SignedInPrincipal | None:
        self.asked.append(principal)
        if self.is_down:
            raise ProviderUnavailable("The server does not answer.", next_step="Try again.")
        return None if self.ended else principal


@dataclass
class FakeJwt:
    """Takes one token of machines."""

    principal: SignedInPrincipal | None = None

    async def verify(self, token: str) -> SignedInPrincipal | None:
        return self.principal if token == "a.b.c" else None


@dataclass
class House:
    """Two bridges on one catalog, `url` and `other_url`; the doubles behind them may be told how to behave."""

    catalog: Catalog
    tenants: dict[str, Tenant]
    provider: FakeProvider
    membership: FakeMembership
    jwt: FakeJwt
    documents: dict[str, httpx.Response]
    url: str = ""
    other_url: str = ""
    second: FakeProvider = field(default_factory=lambda: FakeProvider("eu", "Another server", "eve", opens_ui=False))

    def client(self, *redirect_uris: str, name: str = "A host") -> str:
        """The id of a client."""
        return self.catalog.oauth_clients.register(name, redirect_uris or (CALLBACK,)).client_id

    def actions(self, client_id: str) -> list[str]:
        """What the audit tells of a client, oldest first."""
        entries = [record.entry for record in self.catalog.audit.read(limit=500)]
        return [each.action for each in reversed(entries) if client_id in (each.actor, each.detail.get("client_id"))]


@dataclass
class Person:
    """A browser of a person, which keeps cookies and goes where it is sent, one step at a time."""

    house: House
    # Every person sits at another address: limits are counted by it.
    address: str = field(default_factory=lambda: str(next(ADDRESSES)))
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(trust_env=False, verify=TLS, timeout=30, headers={"X-Forwarded-For": self.address})

    def asks(self, client_id: str, **changes: str | None) -> httpx.Response:
        """What a client's link to the sign-in shows."""
        asked: dict[str, str | None] = {
            "response_type": "code", "client_id": client_id, "redirect_uri": CALLBACK, "state": "of the client",
            "code_challenge": s256(VERIFIER), "code_challenge_method": "S256", "resource": f"{self.house.url}/mcp",
            "scope": " ".join(sorted(WORKING)), **changes,
        }  # fmt: skip
        return self.http.get(
            f"{self.house.url}/oauth/authorize",
            params={name: value for name, value in asked.items() if value is not None},
        )

    def sends(self, page: httpx.Response, url: str | None = None, **fields: str) -> httpx.Response:
        """The answer to the form on a page, as a browser sends it."""
        form = {**hidden(page), **fields}
        action = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert action, page.text
        origin = fields.pop("origin", self.house.url)
        form.pop("origin", None)
        return self.http.post(at(action[1], url), data=form, headers={"Origin": origin})

    def goes(self, address: str, url: str | None = None) -> httpx.Response:
        """The page at an address."""
        return self.http.get(at(address, url))

    def signs_in(self, page: httpx.Response, url: str | None = None) -> httpx.Response:
        """Page 2, after page 1 was agreed to and the provider has let the person in."""
        away = self.sends(page, provider="www")
        assert away.status_code == 303, away.text
        back = self.goes(self.house.provider.comes_back(away.headers["location"]), url)
        assert back.status_code == 303, back.text
        return self.goes(back.headers["location"], url)

    def connects(self, client_id: str, **changes: str | None) -> dict[str, str]:
        """What the client gets at its address when the person agrees to everything."""
        return answer_in(self.sends(self.signs_in(self.asks(client_id, **changes)), decision="connect"))


# Programs keep no cookies.
programs = httpx.Client(trust_env=False, verify=TLS, timeout=60)


def hidden(page: httpx.Response) -> dict[str, str]:
    """The hidden fields of a page."""
    assert page.status_code == 200, page.text
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.text))


def answer_in(response: httpx.Response) -> dict[str, str]:
    """The parameters with which the browser is sent back to the client; each is there once."""
    assert response.status_code == 303, response.text
    parameters = parse_qs(urlsplit(response.headers["location"]).query, strict_parsing=True)
    assert all(len(values) == 1 for values in parameters.values())
    return {name: values[0] for name, values in parameters.items()}


def at(address: str, url: str | None) -> str:
    """The same address at another bridge."""
    if url is None:
        return address
    return urlsplit(address)._replace(netloc=urlsplit(url).netloc).geturl()


def token_request(url: str, **form: str | None) -> httpx.Response:
    given = {name: value for name, value in form.items() if value is not None}
    return programs.post(f"{url}/oauth/token", data=given)


def exchange(house: House, client_id: str, code: str, url: str | None = None, **changes: str | None) -> httpx.Response:
    """The answer to a client that presents a code."""
    form: dict[str, str | None] = {
        "grant_type": "authorization_code", "client_id": client_id, "code": code, "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER, "resource": f"{house.url}/mcp", **changes,
    }  # fmt: skip
    return token_request(url or house.url, **form)


def tokens_for(house: House, person: Person, client_id: str, **changes: str | None) -> dict[str, Any]:
    """The tokens of a client that the person connected."""
    answer = exchange(house, client_id, person.connects(client_id, **changes)["code"])
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


@contextmanager
def open_house(pg: PgServer) -> Iterator[House]:
    """Two bridges with two tenants, `clinic:one` and `clinic:two`; jane may work with one and read two."""
    migrate(pg.connections)
    settings = Settings(_env_file=None, home=pg.home, database_url=None, dagster_url="http://127.0.0.1:9")
    catalog = Catalog.open(settings)
    tenants = {
        key: add_tenant(
            settings,
            catalog,
            pg.connections,
            Unasked(f"Project {key}"),
            key=key,
            server="http://127.0.0.1:9",
            external_id=key.replace(":", "-"),
            credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
        )
        for key in ("clinic:one", "clinic:two")
    }
    provider = FakeProvider(rights={"jane": {"clinic:one": WORKING, "clinic:two": READING}})
    house = House(catalog, tenants, provider, FakeMembership(), FakeJwt(), {})

    async def public(_: str) -> list[str]:
        return ["93.184.216.34"]

    def document(request: httpx.Request) -> httpx.Response:
        return house.documents[f"https://{request.headers['host']}{request.url.raw_path.decode()}"]

    policy = Clients()
    parts = SignInParts(
        [provider, house.second],
        policy.model_copy(update={"redirect_hosts": policy.redirect_hosts | {"host.example.org"}}),
        house.membership,
        house.jwt,
        Documents(public, httpx.MockTransport(document)),
        ui_address=lambda: UI,
        ui_session_s=UI_SESSION_S,
    )
    with serving(settings, parts) as house.url, serving(settings, replace(parts), of=house.url) as house.other_url:
        yield house
    catalog.close()


@contextmanager
def serving(settings: Settings, people: SignInParts, of: str | None = None) -> Iterator[str]:
    """The address of a bridge. `of`: of the one that it is a replica of, as behind a proxy that keeps the host's name."""
    bound = socket.create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    services = Services.compose(settings, Parts(provider_named, faults_of))
    app = http_app(services, host="127.0.0.1", port=port, public_url=of, people=people)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def headers_of(token: str, **more: str) -> Mapping[str, str]:
    """The headers of an MCP request."""
    accept = "application/json, text/event-stream"
    return {"Accept": accept, "Content-Type": "application/json", "Authorization": f"Bearer {token}", **more}
