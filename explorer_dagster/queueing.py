"""Which queued run goes first, and how many may go at once? Dagster's own priority and limits, from who waits for the run.

Every run passes here on its way into the queue: of an agent, of a person in Dagster's UI, of a schedule, a backfill or a retry.
"""

from collections.abc import Mapping
from typing import Any

from explorer.contract.tags import RunTags

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
