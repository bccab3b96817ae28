"""The guard in front of the Dagster UI: reads pass, changes need the token, other sites get nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from explorer.contract.headers import TOKEN_COOKIE, TOKEN_HEADER
from explorer_dagster.webserver.guard import Guard

HOST = "127.0.0.1:3000"
TOKEN = "right-token"
MUTATION = 'mutation M { terminateRun(runId: "x") { __typename } }'
HIDDEN = 'query Q { version } mutation M { terminateRun(runId: "x") { __typename } }'
reached: list[str] = []


async def graphql(request: Request) -> JSONResponse:
    body = (await request.body()).decode()
    reached.append(body or str(request.query_params))
    return JSONResponse({"data": {}})


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse("<html>")


async def subscription(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


@pytest.fixture
def client() -> Iterator[TestClient]:
    reached.clear()
    app = Starlette(
        routes=[
            WebSocketRoute("/graphql", subscription),
            Route("/graphql", graphql, methods=["GET", "POST"]),
            Route("/report_asset_materialization/{key}", graphql, methods=["POST"]),
            Route("/{path:path}", page),
        ]
    )
    with TestClient(Guard(app, token=TOKEN, hosts={HOST}), base_url=f"http://{HOST}") as test_client:
        yield test_client


def post(client: TestClient, query: str, **headers: str) -> Any:
    return client.post("/graphql", json={"query": query}, headers=headers)


def test_a_query_needs_nothing(client: TestClient) -> None:
    assert post(client, "{ version }").status_code == 200
    assert client.get("/graphql", params={"query": "{ version }"}).status_code == 200
    assert len(reached) == 2


@pytest.mark.parametrize("query", [MUTATION, HIDDEN, "# comment\n" + MUTATION, "\ufeff" + MUTATION])
def test_a_mutation_without_the_token_never_reaches_dagster(client: TestClient, query: str) -> None:
    assert post(client, query).status_code == 403
    assert post(client, query, **{TOKEN_HEADER: "wrong"}).status_code == 403
    assert reached == []


def test_a_mutation_with_the_token_passes_with_its_body(client: TestClient) -> None:
    assert post(client, MUTATION, **{TOKEN_HEADER: TOKEN}).status_code == 200
    assert "terminateRun" in reached[0]


@pytest.mark.parametrize("headers", [{}, {TOKEN_HEADER: TOKEN}])
def test_a_mutation_by_get_is_refused_even_with_the_token(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/graphql", params={"query": MUTATION}, headers=headers).status_code == 403
    assert reached == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/graphql", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_other_content_types_are_refused_in_words(client: TestClient, content_type: str, token: str) -> None:
    headers = {"content-type": content_type, TOKEN_HEADER: token}
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


def test_reports_of_assets_need_the_token(client: TestClient) -> None:
    assert client.post("/report_asset_materialization/a").status_code == 403
    assert client.post("/report_asset_materialization/a", headers={TOKEN_HEADER: TOKEN}).status_code == 200


@pytest.mark.parametrize("headers", [{"host": "evil.example:3000"}, {"origin": "http://evil.example"}, {"origin": "null"},
                                     {"origin": "http://127.0.0.1:8888"}, {"sec-fetch-site": "cross-site"}])  # fmt: skip
def test_other_sites_are_refused_even_for_reads_and_with_the_token(client: TestClient, headers: dict[str, str]) -> None:
    response = post(client, "{ version }", **headers, **{TOKEN_HEADER: TOKEN})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert reached == []


def test_the_ui_gets_the_token_as_a_strict_cookie_and_can_then_change_things(client: TestClient) -> None:
    response = client.get("/runs", headers={"accept": "text/html", "sec-fetch-site": "none"})
    assert "samesite=strict" in response.headers["set-cookie"].lower()
    assert "httponly" in response.headers["set-cookie"].lower()
    assert post(client, MUTATION, origin=f"http://{HOST}").status_code == 200


def test_a_page_fetched_by_another_site_carries_no_token(client: TestClient) -> None:
    headers = {"accept": "text/html", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert "set-cookie" not in client.get("/runs", headers=headers).headers


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, False),
        ({"cookie": f"{TOKEN_COOKIE}={TOKEN}", "origin": "http://evil.example"}, False),
        ({"cookie": f"{TOKEN_COOKIE}=wrong", "origin": f"http://{HOST}"}, False),
        ({"cookie": f"{TOKEN_COOKIE}={TOKEN}", "origin": f"http://{HOST}"}, True),
    ],
)
def test_subscriptions_need_the_token_and_our_origin(
    client: TestClient, headers: dict[str, str], accepted: bool
) -> None:
    try:
        with client.websocket_connect("/graphql", headers={"host": HOST, **headers}):
            opened = True
    except WebSocketDisconnect:
        opened = False
    assert opened is accepted


def test_a_huge_body_is_refused_unread(client: TestClient) -> None:
    assert client.post("/graphql", content=b"x" * (17 * 1024 * 1024)).status_code == 413
    assert reached == []
