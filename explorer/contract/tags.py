"""The tags of a run: who launched it and how, its cost, its retries, and the process that executes it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

import msgspec

RetryState = Literal["waiting", "started", "dropped"]
# Who waits for a run: somebody, such as an agent or a person in Dagster's UI, or nobody.
RunClass = Literal["waited_for", "background"]


# On a materialization of a tenant: the run found the asset as it was. Dagster wants one all the same, for the next step.
AS_BEFORE = {"explorer/as_before": "true"}


class RunTags(msgspec.Struct, frozen=True, kw_only=True):
    """The tags of a run that are ours, and those of Dagster that we read.

    `partition_key`: the tenant's key. `full_refresh`: everything is read again instead of only changes. `launch`: id of the
    catalog's row for this launch. `requests`, `bytes`: the cost at the provider so far, over all steps. `retry`: `waiting` until
    the run was launched again or needs no retry; `retry_at`: when; `retry_of`: id of the run that this one repeats, as attempt
    `retry_number`. `worker`: the process that the warm pool forked for it, and its machine
    (`explorer.core.processes.WorkerIdentity`). `schedule`, `backfill`: what launched it, if anything did. `run_class`,
    `priority`: its place in the queue, the higher the sooner (`explorer_dagster.queueing`). `traceparent`: the span that
    asked for it, as W3C's header.
    """

    partition_key: str | None = msgspec.field(default=None, name="dagster/partition")
    full_refresh: bool = msgspec.field(default=False, name="explorer/full_refresh")
    requested_by: str | None = msgspec.field(default=None, name="explorer/requested_by")
    idempotency_key: str | None = msgspec.field(default=None, name="explorer/idempotency_key")
    launch: str | None = msgspec.field(default=None, name="explorer/launch")
    requests: int | None = msgspec.field(default=None, name="explorer/requests")
    bytes: int | None = msgspec.field(default=None, name="explorer/bytes")
    retry: RetryState | None = msgspec.field(default=None, name="explorer/retry")
    retry_at: datetime | None = msgspec.field(default=None, name="explorer/retry_at")
    retry_of: str | None = msgspec.field(default=None, name="explorer/retry_of")
    retry_number: int | None = msgspec.field(default=None, name="explorer/retry_number")
    # The leading dot hides it in Dagster's UI.
    worker: str | None = msgspec.field(default=None, name=".explorer/worker")
    traceparent: str | None = msgspec.field(default=None, name=".explorer/traceparent")
    schedule: str | None = msgspec.field(default=None, name="dagster/schedule_name")
    backfill: str | None = msgspec.field(default=None, name="dagster/backfill")
    run_class: RunClass | None = msgspec.field(default=None, name="explorer/class")
    priority: int | None = msgspec.field(default=None, name="dagster/priority")

    def to_tags(self) -> dict[str, str]:
        """The tags that are set: to launch a run with, to add to one, or to look runs up by."""
        facts = {each.encode_name: getattr(self, each.name) for each in msgspec.structs.fields(self)}
        return {label: _text(value) for label, value in facts.items() if value is not None and value is not False}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """Read a run's tags. Unknown tags are ignored, unreadable ones stay unset."""
        values = {}
        for each in msgspec.structs.fields(cls):
            if (text := tags.get(each.encode_name)) is not None:
                try:
                    values[each.name] = msgspec.convert(text, each.type, strict=False)
                except msgspec.ValidationError:
                    continue
        return cls(**values)


def _text(value: object) -> str:
    if value is True:
        return "true"
    return value.isoformat() if isinstance(value, datetime) else str(value)
