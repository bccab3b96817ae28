"""What do runs say of a tenant's partition? The one thing that answers about tables ask of Dagster, by a narrow protocol.

Nothing here speaks to Dagster: who reads tables by SQL must not depend on whoever knows runs.
"""

from dataclasses import dataclass, field
from typing import Protocol

from explorer.catalog import Tenant, TenantSchema
from mcp_bridge.clients.dagster.records import AssetState


@dataclass(frozen=True)
class FailedCheck:
    """A check that failed. `tables`: where its asset stands for many tables, those that fail, with how many rows or values (None
    when they could not be counted); None where the check is of the asset as a whole."""

    name: str
    asset_key: tuple[str, ...]
    tables: dict[str, int | None] | None = None

    def name_for(self, table: str) -> str | None:
        """How the check is named among those of a table; None when the table does not fail it."""
        if self.tables is None:
            return self.name
        if table not in self.tables:
            return None
        count = self.tables[table]
        return self.name if count is None else f"{self.name} ({count} found)"


# By run.
Failing = dict[str, tuple[FailedCheck, ...]]
LATE = "Dagster does not answer in time."


@dataclass(frozen=True)
class PartitionState:
    """What Dagster says of a tenant's partition, or why it does not: then everything else is empty.

    `settled`: the run that wrote the schemas last has ended, so that it will add nothing; `unfinished_run`: it has let go of the
    schemas and not ended, so that it may say more; `failed_run`: it failed; `problem`: why nothing is known, a sentence; `late`:
    the answer is still to come.
    """

    assets: dict[tuple[str, ...], AssetState] = field(default_factory=dict)
    failing: Failing = field(default_factory=dict)
    settled: bool = False
    unfinished_run: str | None = None
    failed_run: str | None = None
    problem: str | None = None
    late: bool = False


class PartitionStates(Protocol):
    """Who knows what runs have done."""

    async def of(self, tenant: Tenant, schema: TenantSchema) -> PartitionState:
        """The state of the tenant's partition; never raises for Dagster's absence."""

    async def prepare(self) -> None:
        """Read what is the same for all tenants, so that the first question need not."""
