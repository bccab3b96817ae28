"""What do people and agents notice while runs are at work? A query of the bridge and the partitions of the Dagster UI, asked
again and again."""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from benchmarks.agents.small_tenant import BridgeClient, Platform
from benchmarks.loading import WrongRows
from explorer.contract.headers import TOKEN_HEADER

_SQL = "select case_type, count(*) from cases group by 1"
_EVERY_S = 0.25
# A person opens a page now and then.
_PAGE_EVERY = 20
_PARTITIONS = """
query Partitions($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      partitionStats { numMaterialized numFailed numMaterializing numPartitions }
      assetPartitionStatuses {
        ... on DefaultPartitionStatuses {
          materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions
        }
      }
    }
  }
}
"""


@dataclass
class Noticed:
    """Seconds of each answer."""

    queries: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)


def p95(samples: list[float]) -> float:
    """The 95th percentile; of a few samples the longest."""
    return statistics.quantiles(samples, n=20)[-1] if len(samples) > 20 else max(samples)


@contextmanager
def asked(platform: Platform, tenant: str) -> Iterator[Noticed]:
    """Ask while the block lasts. Raises WrongRows at its end, when an answer was none."""
    noticed, over, failure = Noticed(), threading.Event(), list[Exception]()
    token = platform.command("tokens", "create", "--name", "bench", "--tenant", tenant, "--scope=query:run").strip()

    async def ask() -> None:
        status = json.loads(platform.command("status", "--json"))
        secret = (platform.home / "webserver.token").read_text().strip()
        page = {"query": _PARTITIONS, "variables": {"key": {"path": ["commcare", "raw", "cases"]}}}
        async with (
            BridgeClient(status["bridge_url"], token) as client,
            httpx2.AsyncClient(headers={TOKEN_HEADER: secret}, timeout=120, trust_env=False) as ui,
        ):
            number = 0
            while not over.is_set():
                began = time.perf_counter()
                answer = await client.call_tool("query", {"tenant": tenant, "sql": _SQL})
                if not (answer.structured_content or {}).get("success"):
                    raise WrongRows(f"query: {json.dumps(answer.structured_content)[:300]}")
                noticed.queries.append(time.perf_counter() - began)
                if number % _PAGE_EVERY == 0:
                    began = time.perf_counter()
                    found = (await ui.post(f"{status['dagster_url']}/graphql", json=page)).json()
                    if not found["data"]["assetNodeOrError"]["partitionStats"]["numPartitions"]:
                        raise WrongRows(f"the UI has no partitions: {json.dumps(found)[:300]}")
                    noticed.pages.append(time.perf_counter() - began)
                number += 1
                await asyncio.sleep(_EVERY_S)

    def work() -> None:
        try:
            asyncio.run(ask())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="meanwhile")
    thread.start()
    try:
        yield noticed
    finally:
        over.set()
        thread.join()
        platform.command("tokens", "revoke", "bench")
    if failure:
        raise failure[0]
