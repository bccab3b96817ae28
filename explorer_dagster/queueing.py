"""Which queued run goes first, and how many may go at once? Dagster's own priority and limits, from who waits for the run. And
which run does not come into the queue, because its tenant has used up the runs of its day?

Every run passes here on its way into the queue: of an agent, of a person in Dagster's UI, of a schedule, a backfill or a retry.
"""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from explorer.catalog.coordination.quotas import Quota, QuotaExhausted, QuotaStore
from explorer.catalog.storage.database import Database
from explorer.catalog.tenants.tenant import TenantStore
from explorer.contract.tags import RunTags
from explorer.core.errors import TransientError, UnknownTenant
from explorer.core.settings import get_settings
from explorer.postgres.connections import load_connections

_log = logging.getLogger(__name__)

# What a run without the tag has in Dagster: one from the UI, for which somebody waits as for an agent's.
WAITED_FOR = 0
SCHEDULED = -10
# Full reads and backfills take long, and nobody is waiting for them.
BULK = -20


def place(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags to add to a run with these, so that it gets its place. A priority that somebody has chosen stays."""
    known = RunTags.from_tags(tags)
    launched_alone = known.schedule or known.backfill or known.retry_of
    if not launched_alone and known.run_class != "background":
        return RunTags(run_class="waited_for").to_tags()
    priority = BULK if known.full_refresh or known.backfill else SCHEDULED
    return RunTags(run_class="background", priority=priority if known.priority is None else None).to_tags()


def limits(most: int) -> list[dict[str, Any]]:
    """Dagster's tag limits for `most` runs at a time: one of them is kept for runs that somebody waits for."""
    (label, value), *_ = RunTags(run_class="background").to_tags().items()
    return [{"key": label, "value": value, "limit": most - 1}] if most > 1 else []


class RunQuotas:
    """Counts each run of a tenant for its quota. Thread-safe. It needs the catalog's login, and no key."""

    @cached_property
    def _database(self) -> Database:
        return Database(load_connections(get_settings()).service)

    def refusal(self, tags: Mapping[str, str]) -> QuotaExhausted | None:
        """Why a run with these tags may not start; None when it was counted, is of no tenant, or the catalog does not answer, so
        that a run fails for its own reasons only."""
        key = RunTags.from_tags(tags).partition_key
        if key is None:
            return None
        try:
            tenant = TenantStore(self._database).get(key)
            QuotaStore(self._database, Quota.of_settings(get_settings())).take_run(tenant)
        except QuotaExhausted as error:
            return error
        except UnknownTenant:
            return None
        except TransientError as error:
            _log.warning("A run of %s is not counted for its quota: %s", key, error)
        return None
