"""How do many tenants stand, in one statement? Their schemas, what these hold, and how the pipelines went."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from explorer.catalog.coordination.syncs import Sync, sync_of
from explorer.catalog.lifecycle.schemas import State
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import schemas, syncs
from explorer.contract.bookkeeping.holdings import Holdings


@dataclass(frozen=True)
class Overview:
    """`run_id`: the run that writes the schemas now, or wrote them last; `holdings`: None before the first run of this version;
    `syncs`: by pipeline."""

    state: State
    run_id: str | None
    holdings: Holdings | None
    syncs: dict[str, Sync]

    @property
    def looked_at(self) -> datetime | None:
        """When the tenant's server was last looked at."""
        return max((sync.looked_at for sync in self.syncs.values() if sync.looked_at), default=None)

    @property
    def last(self) -> Sync | None:
        """The pipeline whose run was judged last."""
        judged = [(sync.judged_at, pipeline) for pipeline, sync in self.syncs.items() if sync.judged_at is not None]
        return self.syncs[max(judged)[1]] if judged else None


class OverviewStore:
    """The overviews of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, tenants: Collection[UUID]) -> dict[UUID, Overview]:
        """By tenant id; unknown ids are left out."""
        query = (
            select(schemas.c.tenant_id.label("of"), schemas.c.state, schemas.c.run_id, schemas.c.holdings, *syncs.c)
            .outerjoin(syncs, syncs.c.tenant_id == schemas.c.tenant_id)
            .where(schemas.c.tenant_id.in_(tenants))
        )
        found: dict[UUID, Overview] = {}
        with self._database.single() as connection:
            for row in connection.execute(query).mappings():
                held = Holdings.from_object(row["holdings"]) if row["holdings"] else None
                overview = found.setdefault(row["of"], Overview(State(row["state"]), row["run_id"], held, {}))
                if row["pipeline"] is not None:
                    overview.syncs[row["pipeline"]] = sync_of(row)
        return found
