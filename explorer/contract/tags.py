"""The tags of a run: who asked for it and how, what it has cost, whether it is tried again, which process does it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

import msgspec

RetryState = Literal["waiting", "started", "dropped"]


class RunTags(msgspec.Struct, frozen=True, kw_only=True):
    """A run's tags as far as they are ours or Dagster's own that we read.

    `partition_key`: the tenant's key. `full_refresh`: everything is read again instead of what changed. `launch`: id of the
    catalog's row that the run was launched under. `requests`, `bytes`: what the run has cost at the provider so far, over all its
    steps. `retry`: `waiting` until the run was started again or is not needed any more; `retry_at`: when; `retry_of`: id of the
    run that this one tries again, for the `retry_number`th time. `worker`: `pid:start time` of the process that the warm pool
    forked for it. `schedule`: what started it, if a schedule did.
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
    schedule: str | None = msgspec.field(default=None, name="dagster/schedule_name")

    def to_tags(self) -> dict[str, str]:
        """The tags that are set: to launch a run with, to add to one, or to look runs up by."""
        facts = {each.encode_name: getattr(self, each.name) for each in msgspec.structs.fields(self)}
        return {label: _text(value) for label, value in facts.items() if value is not None and value is not False}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self:
        """The tags of a run; unknown ones are left out, unreadable ones are not set."""
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
