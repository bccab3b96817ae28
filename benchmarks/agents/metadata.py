"""The benchmark of metadata: how long an agent waits for the descriptions of tables in an instance with many tenants.

The real bridge over HTTP, the real Dagster with the project's definitions and a finished run per tenant, PostgreSQL with every
table, its comments and its statistics. Times are those of the client, the protocol included.

An agent works on one tenant with a token of its own: it lists the tables, describes some of them, searches. First it visits
every tenant once, while the bridge knows nothing about it; then it visits random tenants. The first visits are a measure of
their own: each tenant has only one, because the bridge reads ahead what runs write to tenants in use.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from benchmarks.agents.instance import Instance
from benchmarks.ground import SEED, ChildFailed, Ground
from benchmarks.loading import Scale
from benchmarks.results import Claim, Measure, Result

Step = Callable[[str], Callable[[int], None]]
_GOAL_MS = 50
_GOAL_TOKENS = 8000
_CHARS_PER_TOKEN = 3.5


@dataclass(frozen=True)
class Size:
    """`sessions`: visits of an agent to a tenant drawn at random, after the first to each."""

    tenants: int
    tables: int
    sessions: int


SIZES = {"tiny": Size(2, 6, 2), "small": Size(40, 100, 60), "full": Size(1000, 100, 500)}
_TOOLS = ("list_tables", "describe_table", "search_metadata", "get_metadata")
_DESCRIBED = 4


def metadata(ground: Ground, scale: Scale, step: Step) -> Result:
    """What list_tables, describe_table and others take an agent's client, with many tenants of many tables in the instance."""
    size = SIZES[scale.name]
    result = Result("metadata")
    step(f"{size.tenants} tenants of {size.tables} tables")
    with Instance(ground, size.tenants, size.tables) as world:
        step("Dagster and the bridge")
        with world.served() as bridge:
            step(f"a first visit to each tenant, and {size.sessions} more")
            asyncio.run(_measure(world, bridge.url, size, result))
    result.facts |= {"tenants": size.tenants, "tables_per_tenant": size.tables, "events": world.events}
    return result


async def _measure(world: Instance, url: str, size: Size, result: Result) -> None:
    chosen = random.Random(SEED)  # noqa: S311
    keys = list(world.runs)
    first = {name: Measure(f"{name}, first visit (ms)") for name in _TOOLS}
    later = {name: Measure(f"{name} (ms)") for name in _TOOLS}
    for key in keys:
        await _session(world, url, key, chosen, first)
    for _ in range(size.sessions):
        answer = await _session(world, url, chosen.choice(keys), chosen, later)
    result.measures += [*later.values(), *first.values()]
    result.claims += [
        Claim("list_tables, p95", _p95(later["list_tables"]), _GOAL_MS, "at most", "ms"),
        Claim("describe_table, p95", _p95(later["describe_table"]), _GOAL_MS, "at most", "ms"),
        Claim("get_metadata, concise", len(answer) / _CHARS_PER_TOKEN, _GOAL_TOKENS, "at most", "tokens"),
    ]
    result.facts["tables_in_get_metadata"] = len(json.loads(answer)["data"]["tables"])
    result.facts["p95_ms"] = {measure.name: round(_p95(measure), 1) for measure in result.measures}


async def _session(world: Instance, url: str, key: str, chosen: random.Random, measures: dict[str, Measure]) -> str:
    """Visit a tenant once; returns the text of its get_metadata."""
    tables = chosen.sample([table.name for table in world.tables], _DESCRIBED)
    headers = {"Authorization": f"Bearer {world.tokens[key]}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as transport,
        Client(streamable_http_client(f"{url}/mcp", http_client=transport)) as client,
    ):
        # Every host asks this when it connects; otherwise the client would ask during its first call.
        await client.list_tools()
        await _timed(measures["list_tables"], client, "list_tables")
        for table in tables:
            await _timed(measures["describe_table"], client, "describe_table", table=table)
        await _timed(measures["search_metadata"], client, "search_metadata", search="weight of the child")
        return await _timed(measures["get_metadata"], client, "get_metadata")


async def _timed(measure: Measure, client: Client, tool: str, **arguments: Any) -> str:
    """Call a tool, add its time to the samples and return the answer's text."""
    began = time.perf_counter()
    answer = await client.call_tool(tool, arguments)
    measure.samples.append((time.perf_counter() - began) * 1000)
    text = str(getattr(answer.content[0], "text", ""))
    if answer.is_error:
        raise ChildFailed(f"{tool}: {text[:500]}")
    return text


def _p95(measure: Measure) -> float:
    if len(measure.samples) < 2:
        return measure.samples[0]
    return statistics.quantiles(measure.samples, n=20, method="inclusive")[-1]
