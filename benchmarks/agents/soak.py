"""`python -m benchmarks.agents.soak`: fifty agents for ten minutes, then a storm of slow queries on one tenant.

Run by hand, because it takes its time. It fails when a call does, when the bridge's memory, descriptors or sessions grow, or when
the storm more than doubles what another tenant waits at p95.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from benchmarks.agents.instance import Bridge, Instance
from benchmarks.agents.queries import STATEMENTS, calls_of, fill, request
from benchmarks.ground import Child, Ground, resident_mb

_TABLES = 30
_QUIET_S = 30.0
_STORMERS = 20
# Past every idle limit of the bridge's connections but the one of the server itself.
_COOL_S = 45.0
_SLOW = "select count(*) from generate_series(1, 2000) a, generate_series(1, 2000) b"
_MOST_GROWTH = 1.15
_MOST_TIMES = 2.0


def main(
    minutes: Annotated[float, typer.Option(help="How long the agents call.")] = 10,
    agents: Annotated[int, typer.Option(help="How many call at a time, over two tenants.")] = 50,
) -> None:
    """Let agents call mixed tools, look for leaks, then storm one tenant and measure another."""
    with ExitStack() as stack:
        ground = stack.enter_context(Ground())
        instance = stack.enter_context(Instance(ground, tenants=3, tables=_TABLES))
        for key in instance.runs:
            fill(instance, key)
        bridge = stack.enter_context(instance.served())
        first, second, stormed = instance.runs
        faults = _soak(ground, instance, bridge, (first, second), minutes * 60, agents)
        faults += _storm(ground, instance, bridge, first, stormed)
    for fault in faults:
        print(f"FAULT: {fault}")
    sys.exit(1 if faults else 0)


def _soak(
    ground: Ground, instance: Instance, bridge: Bridge, keys: tuple[str, str], for_s: float, agents: int
) -> list[str]:
    requests = [text for key in keys for text in _mixed(instance, bridge, key)]
    with _Callers(ground, bridge) as callers:
        callers.ask(requests, agents, 20.0)
        before = _usage(ground, bridge)
        seen, done = [before], threading.Event()

        def watch() -> None:
            while not done.wait(10):
                seen.append(_usage(ground, bridge))

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        found = callers.ask(requests, agents, for_s)
        done.set()
        watching.join()
    time.sleep(_COOL_S)
    after = _usage(ground, bridge)
    peak = {name: max(usage[name] for usage in seen) for name in before}
    half = seen[len(seen) // 2]
    print(f"{len(found['ms']):,} calls in {found['wall_s']:.0f} s, p50 {_quantile(found['ms'], 50):.0f} ms, "
          f"p95 {_quantile(found['ms'], 95):.0f} ms, {found['failed']} failed")  # fmt: skip
    print(f"before {before}\nhalf   {half}\npeak   {peak}\nafter  {after}")
    faults = [f"{found['failed']} calls failed: {found['errors']}"] if found["failed"] else []
    if after["memory_mb"] > half["memory_mb"] * _MOST_GROWTH:
        faults.append("memory went on growing in the second half")
    faults += [f"more {name} than before" for name in ("descriptors", "sessions") if after[name] > before[name]]
    return faults


def _storm(ground: Ground, instance: Instance, bridge: Bridge, calm: str, stormed: str) -> list[str]:
    requests = calls_of(bridge.url, instance.tokens[calm])
    slow = [request(bridge.url, "query", {"sql": _SLOW}, instance.tokens[stormed])]
    with _Callers(ground, bridge) as callers, _Callers(ground, bridge) as stormers:
        alone = callers.ask(requests, 5, _QUIET_S)
        storming = threading.Thread(target=stormers.ask, args=(slow, _STORMERS, _QUIET_S + 5))
        storming.start()
        time.sleep(2)
        beside = callers.ask(requests, 5, _QUIET_S)
        storming.join()
    times = _quantile(beside["ms"], 95) / _quantile(alone["ms"], 95)
    print(f"p95 of a tenant alone {_quantile(alone['ms'], 95):.0f} ms, beside a storm on another "
          f"{_quantile(beside['ms'], 95):.0f} ms: {times:.2f} times")  # fmt: skip
    faults = [f"{beside['failed']} calls beside the storm failed: {beside['errors']}"] if beside["failed"] else []
    return faults + ([f"the storm made p95 {times:.1f} times as long"] if times > _MOST_TIMES else [])


class _Callers:
    """A process that calls the bridge."""

    def __init__(self, ground: Ground, bridge: Bridge) -> None:
        self._place = urlsplit(bridge.url)
        self._child = Child("benchmarks.agents.load", {}, ground.files / "load.log")

    def __enter__(self) -> "_Callers":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()

    def ask(self, requests: list[str], sessions: int, for_s: float) -> dict[str, Any]:
        """Call for this time; returns what `load` measured."""
        order = {"host": self._place.hostname, "port": self._place.port, "requests": requests}
        return self._child.ask({**order, "sessions": sessions, "calls": 10**9, "for_s": for_s})


def _mixed(instance: Instance, bridge: Bridge, key: str) -> list[str]:
    """Two queries to each other call."""
    ask: Callable[..., str] = lambda tool, **arguments: request(bridge.url, tool, arguments, instance.tokens[key])  # noqa: E731
    others = [
        ask("list_tables"), ask("describe_table", table="visits"), ask("search_metadata", search="weight"),
        ask("get_metadata"), ask("list_tenants"), ask("get_schema_status"),
    ]  # fmt: skip
    return [
        text for other in others for text in (*calls_of(bridge.url, instance.tokens[key])[: len(STATEMENTS)], other)
    ]


def _usage(ground: Ground, bridge: Bridge) -> dict[str, int]:
    with ground.connections.admin.connect(autocommit=True) as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename <> current_user AND backend_type = 'client backend'"
        ).fetchone()
    descriptors = len(list(Path(f"/proc/{bridge.pid}/fd").iterdir()))
    return {"memory_mb": round(resident_mb(bridge.pid)), "descriptors": descriptors, "sessions": row[0] if row else 0}


def _quantile(samples: list[float], percent: int) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    typer.run(main)
