"""The whole way, with real parts: two bridge processes, the demo server's people, and the SDK's client."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx
import httpx2
import pytest
import yaml
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from demo_commcare.sign_in.accounts import DATA_OFFICER, GUEST, READER, SUPERVISOR
from explorer.catalog import ApiKeyCredential, Catalog, migrate
from explorer.core.settings import Settings
from explorer.tenants import add_tenant
from tests.conftest import PgServer
from tests.demo_browser import Browser
from tests.mcp_bridge.sign_in.house import CALLBACK, FakeJwt, FakeMembership, FakeProvider, House, Person, answer_in
from tests.mcp_bridge.sign_in.test_clients import Memory
from tests.mcp_bridge.stage import Stage, ask, http_bridge
from tests.unasked import Unasked


@dataclass
class Whole:
    """Two bridges and the server behind them."""

    house: House
    server: RunningServer

    def signs_in(self, person: Person, page: httpx.Response, username: str, *domains: str) -> httpx.Response:
        """What the person reads on page 2 after signing in at the server."""
        away = person.sends(page, provider="demo")
        assert away.status_code == 303, away.text
        back = Browser(self.server).comes_from(away.headers["location"], username, *domains)
        returned = person.goes(back)
        assert returned.status_code == 303, returned.text
        return person.goes(returned.headers["location"])


@pytest.fixture(scope="module")
def whole(pg_server: PgServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    migrate(pg_server.connections)
    settings = Settings(_env_file=None, home=pg_server.home, database_url=None, dagster_url="http://127.0.0.1:9")
    with ExitStack() as stack:
        server = stack.enter_context(serve_in_thread())
        catalog = stack.enter_context(Catalog.open(settings))
        tenants = {
            key: add_tenant(
                settings,
                catalog,
                pg_server.connections,
                Unasked(key),
                key=key,
                server=server.url,
                external_id=domain,
                credential=ApiKeyCredential(server.username, server.api_key),
            )
            for key, domain in (("whole:maternal", MATERNAL), ("whole:nutrition", NUTRITION))
        }
        client_id, secret = server.control.oauth_client
        file = tmp_path_factory.mktemp("sign-in") / "sign_in.yml"
        place = {"provider": "commcare", "url": server.url, "client_id": client_id, "client_secret_env": "DEMO_SECRET"}
        file.write_text(yaml.safe_dump({"servers": {"demo": place}}))
        stage = Stage(settings, pg_server.connections, catalog, tenants)
        sign_in = {"EXPLORER_SIGN_IN_FILE": str(file), "DEMO_SECRET": secret}
        one = stack.enter_context(http_bridge(stage, tmp_path_factory.mktemp("one"), **sign_in))
        other = stack.enter_context(
            http_bridge(stage, tmp_path_factory.mktemp("other"), EXPLORER_BRIDGE_PUBLIC_URL=one, **sign_in)
        )
        house = House(catalog, tenants, FakeProvider(), FakeMembership(), FakeJwt(), {}, one, other)
        yield Whole(house, server)


def test_from_a_url_to_an_answer(whole: Whole) -> None:
    """The host knows the address of one bridge; its tokens are good at the other."""
    person, memory, arrived = Person(whole.house), Memory(), {}

    async def opens_browser(address: str) -> None:
        page = await asyncio.to_thread(person.http.get, address)
        second = await asyncio.to_thread(whole.signs_in, person, page, DATA_OFFICER, MATERNAL, NUTRITION)
        gone = await asyncio.to_thread(person.sends, second, decision="connect")
        arrived.update({name: values[0] for name, values in parse_qs(urlsplit(gone.headers["location"]).query).items()})

    async def comes_back() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**arrived)

    async def main() -> list[str]:
        metadata = OAuthClientMetadata(client_name="A host", redirect_uris=[AnyUrl(CALLBACK)])
        auth = OAuthClientProvider(f"{whole.house.url}/mcp", metadata, memory, opens_browser, comes_back)
        async with (
            httpx2.AsyncClient(auth=auth, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(f"{whole.house.url}/mcp", http_client=http)) as client,
        ):
            await ask(client, "list_tenants")
        assert memory.tokens is not None
        headers = {"Authorization": f"Bearer {memory.tokens.access_token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(f"{whole.house.other_url}/mcp", http_client=http)) as client,
        ):
            return sorted(tenant["key"] for tenant in (await ask(client, "list_tenants"))["tenants"])

    assert asyncio.run(main()) == ["whole:maternal", "whole:nutrition"]


@pytest.mark.parametrize(
    ("username", "why"),
    [
        (SUPERVISOR, "limited to some locations"),
        (GUEST, "There is no project space that you could connect here."),
    ],
)
def test_who_may_see_nothing_reads_why(whole: Whole, username: str, why: str) -> None:
    person = Person(whole.house)
    spaces = [MATERNAL] if username == SUPERVISOR else []
    page = whole.signs_in(person, person.asks(whole.house.client()), username, *spaces)
    assert 'value="connect"' not in page.text
    assert why in page.text


def test_a_reader_gets_what_the_role_allows(whole: Whole) -> None:
    person = Person(whole.house)
    second = whole.signs_in(person, person.asks(whole.house.client()), READER, MATERNAL)
    answer_in(person.sends(second, decision="connect"))
    (found,) = [each for each in whole.house.catalog.identities.list() if each.identity.username == READER]
    assert {key: sorted(scopes) for key, scopes in found.rights.items()} == {
        "whole:maternal": ["metadata:read", "query:run"]
    }
