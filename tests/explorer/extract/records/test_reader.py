"""Reading records: typed keys, numbers that Postgres cannot hold, keys for records without one."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.extract.records.content_keys import Occurrences
from explorer.extract.records.key_values import Key
from explorer.extract.records.long_numbers import may_hold_long_number
from explorer.extract.records.reader import Losses, RecordReader, Reject, Row
from explorer.registry import ForEach, Source

ROWS = Source(
    name="rows", table="raw_rows", description="", endpoint="ucr/v1/", paging="link", collection="objects", page_size=3,
    primary_key="row_id", key_from="content", keys={"row_id": "text", "data_source_id": "text", "doc_id": "text"},
    for_each=ForEach(source="sources", param="data_source_id", key="id", column="data_source_id"),
)  # fmt: skip


def reader(kind: str, losses: Losses) -> RecordReader:
    source = ROWS.model_copy(
        update={"keys": {"id": "text", "value": kind}, "primary_key": "id", "key_from": "field", "for_each": None}
    )
    return RecordReader(source, {}, losses)


@pytest.mark.parametrize(
    ("kind", "json_value", "key"),
    [
        ("text", '"a"', "a"), ("text", "5", "5"), ("text", "true", "true"), ("text", "{}", None), ("text", "null", None),
        ("boolean", "true", True), ("boolean", '"False"', False), ("boolean", "1", None), ("boolean", '"x"', None),
        ("bigint", "7", 7), ("bigint", '"8"', 8), ("bigint", "9223372036854775808", None), ("bigint", "true", None),
        ("timestamp", '"2026-01-02T03:04:05.000006Z"', datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
        ("timestamp", '"2026-01-02T03:04:05.000006"', datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
        ("timestamp", '"2026-01-02T03:04:05+02:00"', datetime(2026, 1, 2, 1, 4, 5, 0, UTC)),
        ("timestamp", '"2026-W01-1T00:00:00.000000Z"', datetime(2025, 12, 29, 0, 0, 0, 0, UTC)),
        ("timestamp", '"0001-01-01T00:00:00+05:00"', None),
        ("timestamp", '"9999-12-31T23:59:59-05:00"', None), ("timestamp", '"soon"', None), ("timestamp", "5", None),
    ],
)  # fmt: skip
def test_key_values_become_what_their_column_takes_or_null(kind: str, json_value: str, key: Key | None) -> None:
    losses = Losses()
    row = reader(kind, losses).read(f'{{"id": "x", "value": {json_value}}}'.encode())
    assert isinstance(row, Row)
    assert row.keys == ("x", key)
    assert losses.repaired == (key is None and json_value != "null")


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        [
            "1e131072",
            "-1.5E+200000",
            "12e-17000",
            "1" * 1001,
            "1" * 140_000,
            "0.000001e-123456",
            "1e-17000",
            "1e5",
            "3.5e+30",
        ]
    ),
)


@given(
    number=NUMBERS,
    text=st.sampled_from(["", "0e0000001", "3e123456-77e0000001", " 1e999999"]),
    spaces=st.sampled_from(["", " "]),
)
def test_the_quick_look_misses_no_number_that_postgres_cannot_hold(number: str, text: str, spaces: str) -> None:
    record = f'{{"id": "{text}x","value":{spaces}{number}}}'.encode()
    careful = reader("text", Losses()).read(record)
    quick = reader("text", Losses()).read(record, long_numbers=may_hold_long_number(b"[" + record + b"]"))
    assert type(quick) is type(careful)


@pytest.mark.parametrize(
    ("number", "is_kept"),
    [("1e130999", True), ("1e131999", False), ("1e-15999", True), ("1e-17000", False), ("1" * 1001, True)],
)
def test_numbers_beyond_postgres_are_set_aside(number: str, is_kept: bool) -> None:
    losses = Losses()
    outcome = reader("text", losses).read(f'{{"id": "x", "deep": [{{"n": {number}}}]}}'.encode())
    assert isinstance(outcome, Row if is_kept else Reject)
    assert losses.rejected.total() == (not is_kept)


RECORDS = st.lists(st.sampled_from([b'{"n":1}', b'{"n":2}', b'{"n":3}', b'{ "n":1}']), max_size=30)


def keys_of(
    records: list[bytes], key_from: str, parent: str = "a", occurrences: Occurrences | None = None
) -> list[str]:
    source = ROWS.model_copy(update={"key_from": key_from})
    reader = RecordReader(source, {"data_source_id": parent}, Losses(), occurrences or Occurrences())
    rows = [reader.read(record) for record in records]
    return [row.id for row in rows if isinstance(row, Row)]


@given(RECORDS, st.randoms())
def test_equal_records_stay_as_many_rows_with_the_same_keys_in_any_order(records: list[bytes], random: object) -> None:
    keys = keys_of(records, "occurrence")
    assert len(set(keys)) == len(keys) == len(records)
    shuffled = list(records)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(keys_of(shuffled, "occurrence")) == set(keys)
    by_content = Counter(key.partition("-")[0] for key in keys)
    assert sorted(by_content.values()) == sorted(Counter(records).values())


@given(RECORDS)
def test_a_record_more_is_a_row_more_and_no_other_key(records: list[bytes]) -> None:
    before, after = set(keys_of(records, "occurrence")), set(keys_of([*records, b'{"n":1}'], "occurrence"))
    assert before < after
    assert len(after) == len(before) + 1


@given(RECORDS)
def test_keys_by_content_are_one_per_text(records: list[bytes]) -> None:
    assert len(set(keys_of(records, "content"))) == len(set(records))


def test_keys_of_two_parents_and_of_two_passes_do_not_meet() -> None:
    counted = Occurrences()
    first = keys_of([b"{}", b"{}"], "occurrence", occurrences=counted)
    again = keys_of([b"{}"], "occurrence", occurrences=counted)
    other = keys_of([b"{}"], "occurrence", parent="b" * 200, occurrences=counted)
    another = keys_of([b"{}"], "occurrence", parent="b" * 200 + "c", occurrences=counted)
    assert len({*first, *again, *other, *another}) == 5


def test_keys_by_content_are_those_of_tables_that_exist() -> None:
    """A UCR row has had this key since version 0.1: with another one every table would be written anew."""
    (key,) = keys_of([b'{"doc_id":"d1","n":0}'], "content", parent="6b9a9ef0b4b34b9f8a1a6f4ae8a3a0d1")
    assert key == "1be23d8f922159903e3095a82a04a15a"
