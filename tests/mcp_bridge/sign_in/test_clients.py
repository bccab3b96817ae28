"""Which programs may ask: redirect URIs, documents of strangers, registrations, and the clients of the SDK."""

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from mcp_bridge.sign_in import redirects
from mcp_bridge.sign_in.clients.documents import Documents, DocumentUnusable, is_document_url
from mcp_bridge.sign_in.clients.pinned import pinned_clients, poses_as
from mcp_bridge.sign_in.clients.public_addresses import is_public
from mcp_bridge.sign_in.settings_file import Clients
from tests.mcp_bridge.sign_in.house import CALLBACK, DOCUMENT_URL, House, Person, exchange

POLICY = Clients()


@pytest.mark.parametrize(
    "uri",
    [
        "https://claude.ai/api/mcp/auth_callback",
        "https://claude.com/api/mcp/auth_callback",
        "https://chatgpt.com/connector_platform_oauth_redirect",
        "https://vscode.dev/redirect",
        "http://localhost:53219/callback",
        "http://127.0.0.1:33418/",
        "http://[::1]:8080/x",
        "http://localhost/callback",
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "https://www.cursor.com/agents/mcp/oauth/callback",
    ],
)
def test_the_addresses_of_known_hosts_are_allowed(uri: str) -> None:
    assert redirects.is_allowed(uri, POLICY)


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "http://claude.ai/api/mcp/auth_callback",
        "https://claude.ai.evil.example/",
        "https://evil.example/?https://claude.ai/",
        "https://claude.ai@evil.example/",
        "https://user@claude.ai/",
        "https://claude.ai:8443/",
        "https://claude.ai\\@evil.example/",
        "https://claude.ai/../x",
        "https://claude.ai/%2e%2e/x",
        "https://claude.ai/x#y",
        "https://claude.ai/x#",
        "https://CLAUDE.ai/x",
        "https://claude.ai /x",
        "https://сlaude.ai/x",
        "http://localhost.evil.example/",
        "http://localhost@evil.example/",
        "http://127.0.0.1.evil.example/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://10.0.0.1/",
        "https://localhost/",
        "cursor://evil/oauth/callback",
        "vscode://x/y",
        "//claude.ai/x",
        "",
        "https://claude.ai:x/",
        "https://claude.ai/" + "x" * 3000,
    ],
)
def test_other_addresses_are_not(uri: str) -> None:
    assert not redirects.is_allowed(uri, POLICY)


def test_the_operator_may_shut_loopback_out() -> None:
    assert not redirects.is_allowed("http://localhost:1/x", POLICY.model_copy(update={"loopback": False}))


@pytest.mark.parametrize(
    ("uri", "registered", "same"),
    [
        ("http://localhost:1/cb", "http://localhost:2/cb", True),
        ("http://localhost/cb", "http://localhost:2/cb", True),
        ("http://127.0.0.1:1/cb", "http://localhost:1/cb", False),
        ("http://localhost:1/cb2", "http://localhost:1/cb", False),
        ("http://localhost:1/cb?x=1", "http://localhost:1/cb", False),
        ("https://claude.ai:443/cb", "https://claude.ai/cb", False),
        ("https://claude.ai/cb", "https://claude.ai/cb", True),
    ],
)
def test_ports_are_free_on_ones_own_machine_alone(uri: str, registered: str, same: bool) -> None:
    assert redirects.is_registered(uri, [registered]) is same


def test_an_answer_keeps_what_the_address_has() -> None:
    address = redirects.with_parameters("https://x.example/cb?a=1", {"code": "c d", "state": None})
    assert address == "https://x.example/cb?a=1&code=c+d"
    assert redirects.with_parameters("cursor://a.b/c", {"code": "x"}) == "cursor://a.b/c?code=x"
    assert redirects.host_of("cursor://a.b/c") == "cursor://a.b"


def test_pinned_clients_keep_the_rules_of_others() -> None:
    for client in pinned_clients().values():
        assert is_document_url(client.client_id)
        assert all(redirects.is_allowed(uri, POLICY) for uri in client.redirect_uris)
        host = urlsplit(client.client_id).hostname
        assert poses_as(client.name, host) is None


@pytest.mark.parametrize("name", ["Claude", "CLAUDE Code", "Ｃｌａｕｄｅ", "Anthropic Claude", "Chat GPT", "VS Code"])
def test_a_known_name_from_elsewhere_is_noticed(name: str) -> None:
    assert poses_as(name, None, "localhost")
    assert poses_as(name, "evil.example", "evil.example")
    assert poses_as("My own agent", None, "localhost") is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1", "nonsense", "",
        "64:ff9b:1::7f00:1", "::ffff:0:127.0.0.1", "fec0::1", "5f00::1", "3fff::1", "192.0.0.8", "192.88.99.1", "2001:0:7f00:1::",
        "::ffff:0:a9fe:a9fe",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_outside_are() -> None:
    assert all(is_public(address) for address in ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"))


@pytest.mark.parametrize(
    "client_id",
    [
        "http://host.example.org/client.json", "https://host.example.org", "https://host.example.org/",
        "https://127.0.0.1/c.json", "https://[::1]/c.json", "https://localhost/c.json", "https://2130706433/c.json",
        "https://user@host.example.org/c.json", "https://host.example.org:8443/c.json", "https://host.example.org/c.json#x",
        "https://host.example.org/a/../c.json", "https://host.example.org/%2E%2e/c.json", "https://host.example.org\\@x/c",
        "https://HOST.example.org/c.json", "https://host.example.org/" + "x" * 600, "https://ho st.example.org/c", "dxc_x",
        "https://host.example.org:x/c",
    ],
)  # fmt: skip
def test_not_every_address_is_a_documents(client_id: str) -> None:
    assert not is_document_url(client_id)


def fetched(answer: httpx.Response | Exception, *addresses: str) -> tuple[object, list[httpx.Request]]:
    """What becomes of a document, and the requests that were made for it."""
    sent: list[httpx.Request] = []

    async def resolve(_: str) -> list[str]:
        return list(addresses)

    def serve(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    try:
        return asyncio.run(Documents(resolve, httpx.MockTransport(serve)).fetch(DOCUMENT_URL)), sent
    except DocumentUnusable as error:
        return error, sent


GOOD = {"client_id": DOCUMENT_URL, "client_name": "A host", "redirect_uris": [CALLBACK]}
PUBLIC = "93.184.216.34"


def test_a_document_is_fetched_from_the_address_that_was_checked() -> None:
    found, (request,) = fetched(httpx.Response(200, json=GOOD), PUBLIC, "2606:2800:220:1::1")
    assert not isinstance(found, DocumentUnusable)
    assert request.url.host == PUBLIC
    assert request.headers["host"] == "host.example.org"
    assert request.extensions["sni_hostname"] == "host.example.org"
    assert "cookie" not in request.headers


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["169.254.169.254"], [PUBLIC, "10.0.0.1"], ["::ffff:10.0.0.1"], []]
)
def test_a_name_that_leads_inside_is_never_asked(addresses: list[str]) -> None:
    found, sent = fetched(httpx.Response(200, json=GOOD), *addresses)
    assert isinstance(found, DocumentUnusable)
    assert sent == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": "http://169.254.169.254/"}),
        httpx.Response(404, json=GOOD),
        httpx.Response(200, json={**GOOD, "client_id": "https://other.example.org/c.json"}),
        httpx.Response(200, json={**GOOD, "client_name": " "}),
        httpx.Response(200, json={**GOOD, "redirect_uris": []}),
        httpx.Response(200, json={**GOOD, "redirect_uris": [1]}),
        httpx.Response(200, json={**GOOD, "client_secret": "x"}),
        httpx.Response(200, json={**GOOD, "token_endpoint_auth_method": "private_key_jwt"}),
        httpx.Response(200, json=[GOOD]),
        httpx.Response(200, text=json.dumps(GOOD), headers={"Content-Type": "text/html"}),
        httpx.Response(200, text="x", headers={"Content-Type": "application/json"}),
        httpx.Response(200, json={**GOOD, "more": "x" * 9000}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
    ids=str,
)
def test_what_is_no_document_of_the_client_is_refused(answer: httpx.Response | Exception) -> None:
    found, _ = fetched(answer, PUBLIC)
    assert isinstance(found, DocumentUnusable)
    assert found.next_step


@pytest.mark.parametrize(
    ("said", "fresh_s"),
    [(None, 3600), ("max-age=7200", 7200), ("public, max-age=1", 300), ("max-age=99999999", 86400), ("no-store", 300)],
)
def test_a_document_is_kept_as_long_as_it_says_within_bounds(said: str | None, fresh_s: float) -> None:
    headers = {} if said is None else {"Cache-Control": said}
    found, _ = fetched(httpx.Response(200, json=GOOD, headers=headers), PUBLIC)
    assert getattr(found, "fresh_s", None) == fresh_s


def test_a_client_that_can_do_without_keys_is_good() -> None:
    methods = {"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_methods_supported": ["none"]}
    found, _ = fetched(httpx.Response(200, json={**GOOD, **methods}), PUBLIC)
    assert not isinstance(found, DocumentUnusable)


def register(house: House, person: Person, **metadata: object) -> httpx.Response:
    return person.http.post(f"{house.url}/oauth/register", json=metadata)


def test_a_program_registers_itself(house: House, person: Person) -> None:
    answer = register(
        house,
        person,
        client_name="  Cursor ",
        application_type="web",
        token_endpoint_auth_method="client_secret_basic",
        redirect_uris=[
            "http://localhost:8787/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://evil.example/callback",
        ],
    )
    assert answer.status_code == 201, answer.text
    OAuthClientInformationFull.model_validate(answer.json())
    assert len(answer.json()["redirect_uris"]) == 3
    assert answer.json()["token_endpoint_auth_method"] == "none"
    assert "client_secret" not in answer.json()
    assert answer.json()["client_name"] == "Cursor"
    assert house.actions(answer.json()["client_id"]) == ["client_registered"]


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": "http://localhost/x"}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://evil.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [CALLBACK], "grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"redirect_uris": [CALLBACK], "response_types": ["token"]}, "invalid_client_metadata"),
    ],
)
def test_a_registration_that_could_do_harm_is_refused(
    house: House, person: Person, metadata: dict[str, object], error: str
) -> None:
    answer = register(house, person, **metadata)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_only_so_many_register_in_a_minute(house: House, person: Person) -> None:
    statuses = [register(house, person, redirect_uris=[CALLBACK]).status_code for _ in range(21)]
    assert statuses == [201] * 20 + [429]
    assert int(register(house, person, redirect_uris=[CALLBACK]).headers["retry-after"]) >= 1
    assert register(house, Person(house), redirect_uris=[CALLBACK]).status_code == 201


class Memory:
    """What a host keeps of a connection."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@pytest.mark.parametrize("client_id", [None, "https://claude.ai/oauth/claude-code-client-metadata", DOCUMENT_URL])
def test_the_sdks_client_comes_from_401_to_the_tools(house: House, person: Person, client_id: str | None) -> None:
    """By registration, as a well-known client, and by a document that is fetched."""
    house.documents[DOCUMENT_URL] = httpx.Response(200, json=GOOD)
    memory, arrived = Memory(), {}

    async def opens_browser(address: str) -> None:
        first = person.http.get(address)
        gone = person.sends(person.signs_in(first), decision="connect")
        arrived.update({name: values[0] for name, values in parse_qs(urlsplit(gone.headers["location"]).query).items()})

    async def comes_back() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**arrived)

    async def main() -> set[str]:
        auth = OAuthClientProvider(
            f"{house.url}/mcp",
            OAuthClientMetadata(client_name="A host", redirect_uris=[AnyUrl(CALLBACK)]),
            memory,
            opens_browser,
            comes_back,
            client_metadata_url=client_id,
        )
        async with (
            httpx2.AsyncClient(auth=auth, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(f"{house.url}/mcp", http_client=http)) as client,
        ):
            return {tool.name for tool in (await client.list_tools()).tools}

    assert "query" in asyncio.run(main())
    assert memory.client is not None
    assert memory.tokens is not None
    if client_id is None:
        assert memory.client.client_id.startswith("dxc_")
    else:
        assert memory.client.client_id == client_id
    assert arrived["iss"] == house.url
    assert exchange(house, memory.client.client_id, arrived["code"]).status_code == 400
