"""`/metrics` of the bridge: only for its token, and it counts what callers did."""

import asyncio
import re

import httpx

from explorer.telemetry.metrics_token import make_metrics_token
from tests.mcp_bridge.stage import Stage, ask, http_client, refused


def read(url: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}/metrics", headers=headers, trust_env=False, timeout=30)


def numbers(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_metrics_are_for_their_own_token_and_count_calls_refusals_and_statements(
    stage: Stage, bridge_url: str, token: str
) -> None:
    own = make_metrics_token(stage.settings.home)
    for given in ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer"}, {"Authorization": own}):
        answer = read(bridge_url, **given)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    assert httpx.post(f"{bridge_url}/metrics", trust_env=False).status_code == 405

    def now() -> dict[str, float]:
        # By the address of a pod, say.
        answer = read(bridge_url, Authorization=f"Bearer {own}", Host="10.0.0.7:8100")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return numbers(answer.text)

    async def calls() -> None:
        async with http_client(bridge_url, token) as client:
            await ask(client, "query", sql="select case_id from cases order by 1")
            await refused(client, "query", sql="drop table cases")

    before = now()
    asyncio.run(calls())
    assert (
        httpx.post(f"{bridge_url}/mcp", headers={"Authorization": "Bearer dex_x"}, trust_env=False).status_code == 401
    )
    after = now()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more('explorer_calls_total{outcome="ok",tool="query"}') == 1
    assert more('explorer_calls_total{outcome="error",tool="query"}') == 1
    assert more('explorer_refusals_total{code="not_a_select"}') == 1
    assert more('explorer_call_seconds_count{tool="query"}') == 2
    assert more("explorer_statement_seconds_count") == 1
    assert more("explorer_turn_wait_seconds_count") == 1
    assert more("explorer_answer_rows_total") == 3
    assert more("explorer_answer_bytes_total") > 0
    assert more("explorer_refused_tokens_total") == 1
    assert after['explorer_ready{part="database"}'] == after['explorer_ready{part="dagster"}'] == 1
    assert not any(re.search(r"demo:|agent-one", name) for name in after)
