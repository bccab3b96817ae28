"""The state of a tenant's partition, and the protocol of its source: all that answers about tables need from Dagster.

Nothing here calls Dagster, because code that reads tables by SQL must not depend on code that knows runs.
"""

from dataclasses import dataclass, field
from typing import Protocol

from explorer.catalog import Tenant, TenantSchema
from mcp_bridge.clients.dagster.records import AssetState

# Asset key of a raw table to the names of its checks that failed in the run that loaded it.
Failing = dict[tuple[str, ...], tuple[str, ...]]
LATE = "Dagster does not answer in time."


@dataclass(frozen=True)
class PartitionState:
    """Dagster's state of a tenant's partition, or the reason why it is unknown; then all other fields are empty.

    `settled`: the run that wrote the schemas last has ended, so nothing will be added. `unfinished_run`: that run has released
    the schemas but has not ended, so it may report more. `problem`: why nothing is known, a sentence. `late`: the answer is still
    to come.
    """

    assets: dict[tuple[str, ...], AssetState] = field(default_factory=dict)
    failing: Failing = field(default_factory=dict)
    settled: bool = False
    unfinished_run: str | None = None
    problem: str | None = None
    late: bool = False


class PartitionStates(Protocol):
    """Source of partition states; it knows the runs."""

    async def of(self, tenant: Tenant, schema: TenantSchema) -> PartitionState:
        """The state of the tenant's partition. Does not raise when Dagster is unavailable."""

    async def prepare(self) -> None:
        """Read what all tenants share, so that the first call does not have to."""
