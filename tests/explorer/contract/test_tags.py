"""A run's tags keep their spelling, and old or foreign tags are read as far as possible."""

from datetime import UTC, datetime

import msgspec

from explorer.contract.tags import RunTags

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EVERY = RunTags(
    partition_key="www:clinic",
    full_refresh=True,
    requested_by="ada",
    idempotency_key="k",
    launch="7",
    requests=12,
    bytes=3456,
    retry="waiting",
    retry_at=AT,
    retry_of="run-1",
    retry_number=2,
    worker="4711:99",
    schedule="commcare_sync_schedule",
)


def test_tags_are_spelt_as_in_every_run_so_far() -> None:
    assert EVERY.to_tags() == {
        "dagster/partition": "www:clinic",
        "explorer/full_refresh": "true",
        "explorer/requested_by": "ada",
        "explorer/idempotency_key": "k",
        "explorer/launch": "7",
        "explorer/requests": "12",
        "explorer/bytes": "3456",
        "explorer/retry": "waiting",
        "explorer/retry_at": "2026-01-02T03:04:05.678901+00:00",
        "explorer/retry_of": "run-1",
        "explorer/retry_number": "2",
        ".explorer/worker": "4711:99",
        "dagster/schedule_name": "commcare_sync_schedule",
    }


def test_what_is_not_set_is_no_tag() -> None:
    assert RunTags().to_tags() == {}
    assert RunTags(requests=0).to_tags() == {"explorer/requests": "0"}


def test_tags_are_read_back_with_their_types() -> None:
    assert RunTags.from_tags(EVERY.to_tags()) == EVERY
    assert RunTags.from_tags({}) == RunTags()


def test_what_cannot_be_read_is_not_set_and_what_is_unknown_is_left_out() -> None:
    odd = {
        "explorer/requests": "many",
        "explorer/retry": "later",
        "explorer/retry_at": "soon",
        "explorer/full_refresh": "yes, please",
        "team": "data",
    }
    assert RunTags.from_tags(odd | {"explorer/bytes": "5"}) == RunTags(bytes=5)


def test_a_text_of_digits_stays_a_text() -> None:
    tags = RunTags.from_tags({"explorer/launch": "12", "explorer/requested_by": "007"})
    assert (tags.launch, tags.requested_by) == ("12", "007")
    assert all(isinstance(value, str) for value in tags.to_tags().values())
    assert msgspec.structs.asdict(tags)["requests"] is None
