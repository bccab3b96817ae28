"""The guard in front of the Dagster UI: programs enter by the token, browsers by a session, other sites get nothing."""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from explorer.contract.headers import TOKEN_HEADER, UI_CLIENT, UI_LINKS_PATH, UI_RETURN_PATH
from explorer_dagster.webserver.graphql_request import Refused
from explorer_dagster.webserver.guard import Guard
from explorer_dagster.webserver.people import People, Person
from explorer_dagster.webserver.sessions import LINK_LASTS_S, Sessions

BEHIND_TLS = "dagster.example.org"
HOST = "127.0.0.1:3000"
TOKEN = "right-token"
MUTATION = 'mutation M { terminateRun(runId: "x") { __typename } }'
HIDDEN = 'query Q { version } mutation M { terminateRun(runId: "x") { __typename } }'
SESSION_S = 3600.0
BROWSER = {"accept": "text/html", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
reached: list[str] = []
written: list[tuple[str, list[str]]] = []


async def record(actor: str, changes: Sequence[str]) -> None:
    if "breakTrail" in changes:
        raise OSError
    written.append((actor, list(changes)))


class Clock:
    """Seconds since 1970, as a test sets them."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def graphql(request: Request) -> JSONResponse:
    body = (await request.body()).decode()
    reached.append(body or str(request.query_params))
    return JSONResponse({"data": {}})


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse("<html>")


async def subscription(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


async def waiting(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("here")
    left = await websocket.receive()
    await websocket.send_text(f"left with {left['code']}")


async def listening(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        await websocket.send_text("heard")
    await websocket.send_text(f"left with {message['code']}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(clock: Clock) -> Iterator[TestClient]:
    """A program with the token."""
    with client_of(clock) as found:
        found.headers[TOKEN_HEADER] = TOKEN
        yield found


@pytest.fixture
def stranger(clock: Clock) -> Iterator[TestClient]:
    """Without token and session."""
    with client_of(clock) as found:
        yield found


def client_of(clock: Clock, people: People | None = None) -> TestClient:
    reached.clear()
    app = Starlette(
        routes=[
            WebSocketRoute("/graphql", subscription),
            WebSocketRoute("/waiting", waiting),
            WebSocketRoute("/listening", listening),
            Route("/graphql", graphql, methods=["GET", "POST"]),
            Route("/report_asset_materialization/{key}", graphql, methods=["POST"]),
            Route("/{path:path}", page),
        ]
    )
    sessions = Sessions(TOKEN, port=3000, lasts_s=SESSION_S, now=clock)
    hosts = {"hosts": {HOST, BEHIND_TLS}, "secure_hosts": {BEHIND_TLS}}
    guard = Guard(app, token=TOKEN, **hosts, sessions=sessions, record=record, people=people)
    return TestClient(guard, base_url=f"http://{HOST}", follow_redirects=False)


def new_link(client: TestClient) -> str:
    answer = client.post(UI_LINKS_PATH, headers={TOKEN_HEADER: TOKEN})
    assert answer.json()["lasts_s"] == LINK_LASTS_S
    return str(answer.json()["path"])


def sign_in(client: TestClient) -> None:
    answer = client.get(new_link(client), headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def post(client: TestClient, query: str, **headers: str) -> Any:
    return client.post("/graphql", json={"query": query}, headers=headers)


@pytest.mark.parametrize("query", ["{ version }", MUTATION, HIDDEN, "# comment\n" + MUTATION, "\ufeff" + MUTATION])
def test_without_token_or_session_nothing_reaches_dagster(stranger: TestClient, query: str) -> None:
    for headers in (
        {},
        {TOKEN_HEADER: "wrong"},
        {"cookie": f"explorer_ui_3000={TOKEN}"},
        {"cookie": "explorer_ui_3000=a.9999999999.b"},
        {"cookie": f"explorer_ui_3000=a.{'9' * 400}.b"},
    ):
        answer = post(stranger, query, **headers)
        assert answer.status_code == 401
        assert "explorer ui" in answer.json()["error"]["next_step"]
    assert stranger.get("/graphql", params={"query": "{ version }"}).status_code == 401
    assert stranger.get("/runs").status_code == 401
    assert reached == []


def test_with_the_token_queries_and_mutations_pass(client: TestClient) -> None:
    assert post(client, "{ version }").status_code == 200
    assert client.get("/graphql", params={"query": "{ version }"}).status_code == 200
    assert post(client, MUTATION).status_code == 200
    assert "terminateRun" in reached[2]


def test_changes_are_written_down_before_they_are_passed_on(client: TestClient, stranger: TestClient) -> None:
    written.clear()
    assert post(client, "{ version }").status_code == 200
    assert written == []
    fragments = (
        "mutation { a: terminateRun { x } b: terminateRun { x } ...F } fragment F on M { ...G } "
        "fragment G on M { ...F ... on M { deleteRun { y } } }"
    )
    for query in (MUTATION, HIDDEN, fragments):
        assert post(client, query).status_code == 200
    assert client.post("/report_asset_materialization/x", json={}).status_code == 200
    sign_in(stranger)
    assert post(stranger, MUTATION, origin=f"http://{HOST}").status_code == 200
    assert written == [
        ("dagster:program", ["terminateRun"]),
        ("dagster:program", ["terminateRun"]),
        ("dagster:program", ["terminateRun", "deleteRun"]),
        ("dagster:program", ["POST /report_asset_materialization/x"]),
        ("dagster:ui", ["terminateRun"]),
    ]
    reached.clear()
    chain = " ".join(f"fragment F{number} on M {{ ...F{number + 1} }}" for number in range(1500))
    answer = post(client, f"mutation {{ ...F0 }} {chain}")
    assert (answer.status_code, reached, "too deeply" in answer.json()["error"]["message"]) == (400, [], True)
    many = " ".join(f"change{number}" for number in range(21))
    assert (post(client, f"mutation {{ {many} }}").status_code, reached) == (400, [])
    answer = post(client, "mutation { breakTrail }")
    assert (answer.status_code, reached) == (503, [])
    assert "audit" in answer.json()["error"]["message"]


def test_a_link_opens_one_session_that_may_change_things(stranger: TestClient) -> None:
    link = new_link(stranger)
    opened = stranger.get(link, headers=BROWSER)
    cookie = opened.headers["set-cookie"].lower()
    assert all(each in cookie for each in ("explorer_ui_3000=", "httponly", "samesite=lax", "max-age=3600"))
    assert TOKEN not in cookie
    assert opened.headers["cache-control"] == "no-store"
    assert stranger.get("/runs", headers=BROWSER).status_code == 200
    assert post(stranger, MUTATION, origin=f"http://{HOST}").status_code == 200
    stranger.cookies.clear()
    again = stranger.get(link, headers=BROWSER)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers
    assert "explorer ui" in again.text


@pytest.mark.parametrize(("host", "is_secure"), [(HOST, False), (BEHIND_TLS, True)])
def test_where_a_proxy_ends_tls_the_session_goes_by_tls_alone(stranger: TestClient, host: str, is_secure: bool) -> None:
    opened = stranger.get(new_link(stranger), headers={**BROWSER, "host": host})
    ended = stranger.post("/session/end", headers={"host": host})
    assert ["secure" in answer.headers["set-cookie"].casefold() for answer in (opened, ended)] == [is_secure] * 2


def test_links_and_sessions_end_by_time(stranger: TestClient, clock: Clock) -> None:
    late = new_link(stranger)
    clock.now += LINK_LASTS_S + 1
    assert stranger.get(late, headers=BROWSER).status_code == 401
    sign_in(stranger)
    clock.now += SESSION_S - 1
    assert stranger.get("/runs").status_code == 200
    clock.now += 2
    assert stranger.get("/runs").status_code == 401


def test_a_session_survives_the_webserver_but_not_its_token(clock: Clock) -> None:
    with client_of(clock) as before:
        sign_in(before)
        name, value = "explorer_ui_3000", before.cookies["explorer_ui_3000"]
    assert Sessions(TOKEN, port=3000, lasts_s=SESSION_S, now=clock).is_open(f"{name}={value}")
    assert not Sessions("another", port=3000, lasts_s=SESSION_S, now=clock).is_open(f"{name}={value}")
    assert not Sessions(TOKEN, port=3001, lasts_s=SESSION_S, now=clock).is_open(f"{name}={value}")


def test_a_session_can_be_ended(stranger: TestClient) -> None:
    sign_in(stranger)
    cookie = {"cookie": f"explorer_ui_3000={stranger.cookies['explorer_ui_3000']}"}
    ended = stranger.post("/session/end", headers={"origin": f"http://{HOST}"})
    assert ended.status_code == 200
    assert stranger.get("/runs", headers=cookie).status_code == 401


def test_a_link_needs_the_token_and_a_session_is_not_enough(stranger: TestClient) -> None:
    assert stranger.post(UI_LINKS_PATH).status_code == 401
    sign_in(stranger)
    assert stranger.post(UI_LINKS_PATH).status_code == 401
    assert stranger.head(new_link(stranger)).status_code == 405


def test_a_person_without_a_session_is_told_how_to_get_in(stranger: TestClient) -> None:
    answer = stranger.get("/runs", headers=BROWSER)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "<code>explorer ui</code>" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_mutation_by_get_is_refused_even_with_the_token(client: TestClient) -> None:
    assert client.get("/graphql", params={"query": MUTATION}).status_code == 403
    assert reached == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/graphql", "application/x-www-form-urlencoded", ""])
def test_other_content_types_are_refused_in_words(client: TestClient, content_type: str) -> None:
    headers = {"content-type": content_type}
    for asked in (
        client.post("/graphql", content=MUTATION, headers=headers),
        client.post("/graphql", params={"query": MUTATION}, content="x", headers=headers),
    ):
        assert asked.status_code == 415
        assert "application/json" in asked.json()["error"]["next_step"]
    assert reached == []


def test_dagster_is_given_what_was_parsed_and_nothing_else(client: TestClient) -> None:
    text = '{"variables":{"a":"\u00e9"},"extensions":{"persistedQuery":{}},  "query":"query Q{version}","operationName":null}'
    answer = client.post(
        "/graphql?query=" + MUTATION, content=text, headers={"content-type": "Application/JSON; charset=UTF-8"}
    )
    assert answer.status_code == 200
    assert reached == ['{"query": "query Q{version}", "variables": {"a": "\\u00e9"}, "operationName": null}']


UNPARSABLE = [
    '{"query":"{version}"', '[{"query":"{version}"}]', '"{version}"', '{"query":1}', '{"query":"{"}', '{"variables":{}}',
    '{"query":"{version}","query":"{version}"}', '{"query":"{version}","variables":[]}', "", "[" * 90_000,
    '{"query":"{version}","variables":{"a":NaN}}',
]  # fmt: skip


@pytest.mark.parametrize("text", UNPARSABLE)
def test_what_cannot_be_parsed_is_refused_in_words(client: TestClient, text: str) -> None:
    answer = client.post("/graphql", content=text, headers={"content-type": "application/json", TOKEN_HEADER: TOKEN})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert answer.json()["error"]["message"]
    assert reached == []


def test_reports_of_assets_need_the_token(client: TestClient, stranger: TestClient) -> None:
    assert stranger.post("/report_asset_materialization/a").status_code == 401
    assert client.post("/report_asset_materialization/a").status_code == 200


@pytest.mark.parametrize("headers", [{"host": "evil.example:3000"}, {"origin": "http://evil.example"}, {"origin": "null"},
                                     {"origin": "http://127.0.0.1:8888"}, {"sec-fetch-site": "cross-site"}])  # fmt: skip
def test_other_sites_are_refused_even_for_reads_and_with_the_token(client: TestClient, headers: dict[str, str]) -> None:
    response = post(client, "{ version }", **headers, **{TOKEN_HEADER: TOKEN})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert reached == []


def test_subscriptions_need_a_session_and_our_origin(stranger: TestClient) -> None:
    def opens(**headers: str) -> bool:
        try:
            with stranger.websocket_connect("/graphql", headers={"host": HOST, **headers}):
                return True
        except WebSocketDisconnect:
            return False

    own = f"http://{HOST}"
    assert not opens()
    assert not opens(origin=own)
    assert not opens(origin=own, cookie="explorer_ui_3000=wrong")
    sign_in(stranger)
    session = f"explorer_ui_3000={stranger.cookies['explorer_ui_3000']}"
    assert opens(origin=own, cookie=session)
    assert not opens(origin="http://evil.example", cookie=session)


def test_a_huge_body_is_refused_unread(client: TestClient) -> None:
    assert client.post("/graphql", content=b"x" * (17 * 1024 * 1024)).status_code == 413
    assert reached == []


class Bridge:
    """What the bridge answers about the one person who signed in: the code is `code`, the token `dxa_1`."""

    def __init__(self) -> None:
        self.role: str | None = "ui:view"
        self.is_down = False
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        self.asked.append(request.url.path)
        if self.is_down:
            return httpx.Response(503)
        if request.url.path == "/oauth/introspect":
            is_active = self.role is not None and form["token"] == "dxa_1"
            more = {"username": "person:acme:jane", "scope": self.role} if is_active else {}
            return httpx.Response(200, json={"active": is_active, **more})
        if request.url.path == "/oauth/token":
            assert (form["client_id"], form["redirect_uri"]) == (UI_CLIENT, f"http://{HOST}{UI_RETURN_PATH}")
            is_good = form["code"] == "code" and len(form["code_verifier"]) >= 43
            return (
                httpx.Response(200, json={"access_token": "dxa_1", "expires_in": 60})
                if is_good
                else httpx.Response(400)
            )
        return httpx.Response(200)


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


@pytest.fixture
def visitor(clock: Clock, bridge: Bridge) -> Iterator[TestClient]:
    """The browser of a person, where people may sign in."""
    people = People(
        f"http://{HOST}", lambda: "http://127.0.0.1:8100/mcp", transport=httpx.MockTransport(bridge), now=clock
    )
    with client_of(clock, people) as found:
        yield found


def leaves(visitor: TestClient) -> dict[str, str]:
    """With what the browser is sent to the bridge."""
    away = visitor.get("/session/sign-in", headers=BROWSER)
    target = urlsplit(away.headers["location"])
    assert (away.status_code, target.netloc, target.path) == (303, "127.0.0.1:8100", "/oauth/authorize")
    return {name: values[0] for name, values in parse_qs(target.query).items()}


def signs_in(visitor: TestClient) -> httpx.Response:
    answer = {"code": "code", "state": leaves(visitor)["state"]}
    return visitor.get(UI_RETURN_PATH, params=answer, headers=BROWSER)


def test_who_may_look_changes_nothing(visitor: TestClient, bridge: Bridge, clock: Clock) -> None:
    assert "/session/sign-in" in visitor.get("/", headers=BROWSER).text
    opened = signs_in(visitor)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"].lower()
    assert all(each in cookie for each in ("explorer_ui_person_3000=dxa_1", "httponly", "samesite=lax", "max-age=60"))
    written.clear()
    reached.clear()
    assert visitor.get("/", headers=BROWSER).status_code == 200
    assert post(visitor, "{ version }", origin=f"http://{HOST}").status_code == 200
    for query in (MUTATION, HIDDEN, "subscription { x }"):
        refused = post(visitor, query, origin=f"http://{HOST}")
        assert (refused.status_code, "role" in refused.json()["error"]["message"]) == (403, True)
    assert visitor.post("/report_asset_materialization/x", json={}).status_code == 403
    assert (len(reached), written) == (1, [])
    # The role is asked again after a while.
    bridge.role = "ui:operate"
    clock.now += 20
    assert post(visitor, MUTATION, origin=f"http://{HOST}").status_code == 200
    assert written == [("person:acme:jane", ["terminateRun"])]


def test_a_person_whose_role_is_gone_or_unknown_is_out(visitor: TestClient, bridge: Bridge, clock: Clock) -> None:
    signs_in(visitor)
    assert visitor.get("/runs", headers=BROWSER).status_code == 200
    bridge.is_down = True
    assert visitor.get("/runs", headers=BROWSER).status_code == 200
    clock.now += 20
    assert visitor.get("/runs", headers=BROWSER).status_code == 503
    bridge.is_down, bridge.role = False, None
    assert visitor.get("/runs", headers=BROWSER).status_code == 401
    bridge.role = "ui:view"
    clock.now += 20
    assert visitor.get("/runs", headers=BROWSER).status_code == 200
    assert visitor.post("/session/end", headers={"origin": f"http://{HOST}"}).status_code == 200
    assert bridge.asked[-1] == "/oauth/revoke"
    assert visitor.get("/runs", headers=BROWSER).status_code == 401


def test_a_sign_in_ends_in_the_browser_that_began_it(visitor: TestClient, bridge: Bridge) -> None:
    asked = leaves(visitor)
    assert (asked["client_id"], asked["code_challenge_method"]) == (UI_CLIENT, "S256")
    for answer in ({"code": "code", "state": "another"}, {"code": "code"}, {"error": "access_denied", **asked}):
        refused = visitor.get(UI_RETURN_PATH, params=answer, headers=BROWSER)
        assert (refused.status_code, "person" in str(visitor.cookies)) == (401, False)
    assert "/oauth/token" not in bridge.asked
    visitor.cookies.clear()
    stolen = visitor.get(UI_RETURN_PATH, params={"code": "code", "state": asked["state"]}, headers=BROWSER)
    assert (stolen.status_code, bridge.asked) == (401, [])


def test_a_socket_ends_with_its_session(visitor: TestClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer_dagster.webserver.guard.WATCHED_EVERY_S", 0.01)
    monkeypatch.setattr("explorer_dagster.webserver.people.COUNTS_S", 0.0)
    signs_in(visitor)
    with visitor.websocket_connect(f"ws://{HOST}/waiting", headers={"origin": f"http://{HOST}"}) as socket:
        assert socket.receive_text() == "here"
        bridge.role = None
        assert socket.receive_text() == "left with 1008"


def test_a_socket_that_keeps_sending_ends_too(
    visitor: TestClient, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer_dagster.webserver.guard.WATCHED_EVERY_S", 0.2)
    monkeypatch.setattr("explorer_dagster.webserver.people.COUNTS_S", 0.0)
    signs_in(visitor)
    with visitor.websocket_connect(f"ws://{HOST}/listening", headers={"origin": f"http://{HOST}"}) as socket:
        bridge.role = None
        heard = "heard"
        for _ in range(500):
            socket.send_text("ping")
            if (heard := socket.receive_text()) != "heard":
                break
            time.sleep(0.01)
        assert heard == "left with 1008"


def test_requests_at_the_same_moment_share_a_question(clock: Clock, bridge: Bridge) -> None:
    async def answers(request: httpx.Request) -> httpx.Response:
        answer = bridge(request)
        await asyncio.sleep(0.05)
        return answer

    people = People(
        f"http://{HOST}", lambda: "http://127.0.0.1:8100/mcp", transport=httpx.MockTransport(answers), now=clock
    )

    def who(token: str) -> Coroutine[Any, Any, Person | None]:
        return people.who(f"explorer_ui_person_3000={token}")

    async def ask() -> list[Person | BaseException | None]:
        asking = [asyncio.create_task(who(token)) for token in ("dxa_1", "dxa_1", "another", "dxa_1")]
        await asyncio.sleep(0)
        # Who asked first goes away; the others get their answer.
        asking[0].cancel()
        return await asyncio.gather(*asking, return_exceptions=True)

    gone, *others = asyncio.run(ask())
    jane = Person("person:acme:jane", may_change=False)
    assert isinstance(gone, asyncio.CancelledError)
    assert (others, len(bridge.asked)) == ([jane, None, jane], 2)
    bridge.is_down = True
    clock.now += 20
    down = asyncio.run(ask())
    assert all(isinstance(each, Refused) for each in down[1:])
    assert len(bridge.asked) == 4
    # A question that failed is asked again.
    bridge.is_down = False
    assert asyncio.run(who("dxa_1")) == jane


def test_the_bridge_is_asked_by_its_own_name_on_the_way_inside(bridge: Bridge) -> None:
    """In a container the address for browsers leads elsewhere, and a bridge refuses a Host that is not its own."""
    asked: list[tuple[str, str]] = []

    def seen(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), request.headers["host"]))
        return bridge(request)

    people = People(
        f"http://{HOST}",
        lambda: "https://data.example.org/mcp",
        inner="http://proxy:8101",
        transport=httpx.MockTransport(seen),
    )
    assert asyncio.run(people.who("explorer_ui_person_3000=dxa_1")) == Person("person:acme:jane", may_change=False)
    assert asked == [("http://proxy:8101/oauth/introspect", "data.example.org")]
    assert people.leave(HOST).headers["location"].startswith("https://data.example.org/oauth/authorize?")
