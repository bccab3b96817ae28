"""Who may only look is told so by the answers that the UI's pages read."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from explorer_dagster.webserver.looking import told_rights

ANSWER: dict[str, Any] = {
    "data": {
        "permissions": [
            {
                "__typename": "Permission",
                "permission": "launch_pipeline_execution",
                "value": True,
                "disabledReason": None,
            },
            {"permission": "edit_sensor", "value": False, "disabledReason": "Disabled by your administrator"},
        ],
        "asset": {"hasMaterializePermission": True, "label": "Permission ü", "value": True, "rows": [1, 2.5, None]},
    }
}


async def answered(request: Request) -> Response:
    # Who asks for it compressed would get what cannot be read on the way.
    assert "accept-encoding" not in request.headers
    return JSONResponse(ANSWER) if request.url.path == "/graphql" else PlainTextResponse("Permission: granted")


def test_no_answer_grants_a_right_to_change() -> None:
    app = Starlette(routes=[Route("/graphql", answered), Route("/else", answered)])
    client = TestClient(told_rights(app), headers={"Accept-Encoding": "gzip"})
    found = client.get("/graphql").json()["data"]
    assert client.get("/else").text == "Permission: granted"
    assert [each["value"] for each in found["permissions"]] == [False, False]
    assert "look" in found["permissions"][0]["disabledReason"]
    assert found["permissions"][1] == ANSWER["data"]["permissions"][1]
    assert found["asset"] == {**ANSWER["data"]["asset"], "hasMaterializePermission": False}
