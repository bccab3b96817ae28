"""A list continues only at its own cursor; any other text is an invalid cursor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client import Client

from mcp_bridge.answers.envelope import InvalidCursor
from mcp_bridge.gate.list_cursors import ListCursors
from tests.mcp_bridge.stage import Stage, ask, http_client, refused

LISTS: dict[str, dict[str, Any]] = {
    "list_tables": {},
    "describe_table": {"table": "cases"},
    "search_metadata": {"search": "case"},
    "get_metadata": {},
    "list_runs": {},
    "list_tenants": {},
}
INVALID = {"invalid_cursor", "cursor_invalid", "invalid_argument"}


def of_tenant(tool: str, tenant: str) -> dict[str, Any]:
    return LISTS[tool] | ({} if tool == "list_tenants" else {"tenant": tenant})


def test_only_a_cursor_of_this_list_is_taken(stage: Stage, bridge_url: str) -> None:
    token = stage.token("pages", "demo:second", "demo:launch")
    other = stage.token("other-pages", "demo:second", "demo:launch")

    @asynccontextmanager
    async def clients() -> AsyncIterator[tuple[Client, Client]]:
        async with http_client(bridge_url, token) as one, http_client(bridge_url, other) as two:
            yield one, two

    async def main() -> None:
        async with clients() as (one, two):
            made = [await ask(one, "run_materialization", tenant="demo:second", wait_s=45) for _ in range(3)]
            page = await ask(one, "list_runs", tenant="demo:second", limit=1)
            listed = [run["run_id"] for run in page["runs"]]
            for limit in (1, 50):
                page = await ask(one, "list_runs", tenant="demo:second", limit=limit, cursor=page["next_cursor"])
                listed += [run["run_id"] for run in page["runs"]]
            assert listed[:3] == [run["run_id"] for run in reversed(made)]
            assert len(listed) == len(set(listed))
            cursors = {}
            for tool in LISTS:
                page = await ask(one, tool, **of_tenant(tool, "demo:second"), limit=1)
                cursors[tool] = page["next_cursor"]
                assert cursors[tool], tool
                await ask(one, tool, **of_tenant(tool, "demo:second"), limit=2, cursor=cursors[tool])
            for tool, cursor in cursors.items():
                wrong = ["nonsense", "", "00000000-0000-0000-0000-000000000000", "cases", cursor[:-1], cursor[1:], cursor + "A",
                         ("B" if cursor[0] == "A" else "A") + cursor[1:], "\U0001f600", "=" * 8,
                         *(c for t, c in cursors.items() if t != tool)]  # fmt: skip
                for bad in wrong:
                    error = await refused(one, tool, **of_tenant(tool, "demo:second"), cursor=bad)
                    assert error["code"] in INVALID, (tool, bad, error)
                if tool != "list_tenants":
                    error = await refused(one, tool, **of_tenant(tool, "demo:launch"), cursor=cursor)
                    assert error["code"] in INVALID, tool
                assert (await refused(two, tool, **of_tenant(tool, "demo:second"), cursor=cursor))["code"] in INVALID
            error = await refused(
                one, "list_runs", tenant="demo:second", status=["FAILURE"], cursor=cursors["list_runs"]
            )
            assert error["code"] == "invalid_cursor"

    asyncio.run(main())


@given(place=st.text(max_size=200), at=st.integers(min_value=0), change=st.characters())
def test_a_cursor_stands_for_its_place_and_no_change_is_taken(place: str, at: int, change: str) -> None:
    cursors = ListCursors(b"k" * 32)
    bound = ("list_tables", "agent", "demo:one", {"kind": None, "limit": 5})
    cursor = cursors.seal(place, *bound)
    assert cursors.place(cursor, *bound[:3], {"kind": None, "limit": 9}) == place
    at %= len(cursor)
    changed = cursor[:at] + change + cursor[at + 1 :]
    if changed != cursor:
        with pytest.raises(InvalidCursor):
            cursors.place(changed, *bound)
    for other in (
        ("x", *bound[1:]),
        (bound[0], "x", *bound[2:]),
        (*bound[:2], None, bound[3]),
        (*bound[:3], {"kind": 1}),
    ):
        with pytest.raises(InvalidCursor):
            cursors.place(cursor, *other)
