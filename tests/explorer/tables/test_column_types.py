"""Types of columns: a value fits when the casts accept it, and a settled type only becomes wider."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from explorer.tables.column_types import FITS, Counts, Kind, classify, likeness, settle, wider
from tests.explorer.tables.test_casts import near_misses

Connection = psycopg.Connection[tuple[Any, ...]]
CAST_OF: dict[str, Kind] = {
    "safe_bigint": "integer",
    "safe_numeric": "decimal",
    "safe_date": "date",
    "safe_timestamptz": "datetime",
    "safe_time": "time",
}
KINDS = st.sampled_from(["integer", "decimal", "date", "datetime", "time", "text", "choices", "geopoint"])
CLASSES = st.sampled_from(sorted({"space", "text"}.union(*FITS.values())))
COUNTS = st.dictionaries(CLASSES, st.integers(1, 300), max_size=4)
WIDTH = {"integer": 0, "date": 0, "time": 0, "choices": 0, "geopoint": 0, "decimal": 1, "datetime": 1, "text": 2}


@pytest.fixture(scope="module")
def connection(connections: Connections) -> Iterator[Connection]:
    with connections.service.connect(autocommit=True) as conn:
        conn.execute("set timezone = 'Asia/Kolkata'")
        yield conn


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(near_misses)
@example("9223372036854775807")
@example("9223372036854775808")
@example("007")
@example(" 12\n")
@example("5\u2003")
@example("2024-02-29T00:00:00.000000Z")
@example("2024-02-29T00:00:01Z")
@example("2023-02-29")
@example("2024-01-01 00:00+05:30")
@example("10:30")
@example("0" * 39 + "1")
@example("0" * 40 + "1")
@example("1" * 100)
@example("1" * 101)
@example("." + "0" * 98 + "1")
@example("2024-12-31T23:59:59.123456Z")
@example("2024-02-30")
@example("2023-04-31T10:00:00Z")
@example("2024-01-00")
@example("0999-01-01")
@example("12.0")
@example("-0.0")
@example("1.2E1")
@example("1.25E1")
@example("9223372036854775807.0")
@example("9223372036854775808.0")
@example("1e99")
@example("10:30:00.1234567")
@example("10:30:00.123456000")
@example("2024-12-31T23:59:59.123456789Z")
def test_a_value_fits_here_exactly_when_its_cast_takes_it(connection: Connection, value: str) -> None:
    columns = ", ".join(f"casts.{cast}(value) is not null" for cast in CAST_OF)
    row = connection.execute(f"select {columns} from (values (%s::text)) as t (value)".encode(), [value]).fetchone()
    assert row is not None
    assert dict(zip(CAST_OF, row, strict=True)) == {
        cast: classify(value) in FITS[kind] for cast, kind in CAST_OF.items()
    }


def counts(values: list[str]) -> Counts:
    return Counter(name for name in map(classify, values) if name != "empty")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["2024-01-01"], "date"),
        (["2024-01-01", "2024-01-01T10:00:00Z"], "text"),
        (["2024-01-01T10:00:00Z", "2024-01-01T00:00:00.5+00:00"], "datetime"),
        (["2024-01-01T00:00:00Z"], "datetime"),
        (["2024-01-01T10:00:00+05:30"], "text"),
        (["2024-01-01T10:00:00"], "text"),
        (["2024-01-01T10:00:00.1234567Z"], "text"),
        (["2024-01-01", "soon"], "text"),
        (["10:00"], "time"),
        (["10:00+05:30"], "text"),
        (["1"] * 19, None),
        (["1"] * 20, "integer"),
        (["1"] * 19 + ["1.5"], "decimal"),
        (["1"] * 20 + ["007"], "text"),
        (["1"] * 20 + ["1.0"], "text"),
        (["1.5", "3.0"] * 10, "decimal"),
        (["1.5", "3.0"] * 10 + ["3"], "text"),
        (["1.1"] * 20 + ["1.10"], "text"),
        (["1"] * 20 + ["-0"], "text"),
        (["1.5"] * 20 + ["-0.0"], "text"),
        (["1"] * 20 + ["9" * 19], "text"),
        (["1"] * 20 + [""], "integer"),
        (["1"] * 20 + [" "], "text"),
        (["yes"], "text"),
        ([], None),
        ([""], None),
    ],
)
def test_types_told_by_values(values: list[str], kind: str | None) -> None:
    assert settle(None, None, counts(values), counts(values)) == kind


def test_a_declared_type_survives_a_few_odd_values_and_no_more() -> None:
    seen = {"integer": 95, "text": 5}
    assert settle("integer", None, seen, {}) == "integer"
    assert settle("integer", "integer", {"integer": 300, "text": 40}, {"integer": 1}) == "text"
    assert settle("integer", "integer", {"integer": 300, "decimal": 40}, {"integer": 1}) == "decimal"
    assert settle("integer", "integer", {"whole": 40, "point_zero": 40}, {"whole": 40}) == "integer"
    assert settle("integer", "integer", {"space": 40}, {"space": 40}) == "integer"
    assert settle("date", None, {"text": 1}, {}) == "text"
    assert settle("date", "date", {"date": 100_000, "text": 15}, {"date": 5, "text": 15}) == "text"
    assert settle("date", "date", {"date": 100_000, "text": 5}, {"text": 5}) == "date"


@pytest.mark.parametrize(
    ("before", "seen"),
    [
        ("integer", {"integer": 100_000, "decimal": 1}),
        ("integer", {"integer": 100_000, "whole": 1}),
        ("date", {"date": 1000, "instant": 1}),
        ("date", {"date": 1000, "text": 1}),
        ("datetime", {"instant": 1000, "date": 1}),
        ("time", {"clock": 1000, "time": 1}),
        ("decimal", {"decimal": 1000, "number": 1}),
        ("decimal", {"integer": 1000, "point_zero": 1}),
    ],
)
def test_a_type_taken_from_values_is_text_with_the_first_that_does_not_come_back(before: Kind, seen: Counts) -> None:
    assert settle(None, before, seen, {}) == "text"
    assert settle(None, "text", {before: 1000}, {}) == "text"


def test_what_keeps_a_column_text_is_told() -> None:
    told = likeness(counts([f"2026-01-{day:02d}" for day in range(1, 31)] + ["---"] * 8))
    assert told == ("date", 30, 38, {"text"})
    told = likeness(counts(["9841000000"] * 30 + ["0712345678"]))
    assert told == ("integer", 31, 31, {"whole"})
    assert likeness(counts(["yes", "no", "5"])) is None
    assert likeness({}) is None


@given(KINDS, KINDS)
def test_the_wider_of_two_types_does_not_depend_on_their_order(one: Any, other: Any) -> None:
    assert wider(one, other) == wider(other, one)
    assert wider(one, one) == one


@given(st.one_of(st.none(), KINDS), KINDS, COUNTS, COUNTS)
def test_a_settled_type_stays_or_becomes_wider(declared: Any, before: Any, seen: dict[str, int], latest: Any) -> None:
    after = settle(declared, before, seen, latest)
    assert after is not None
    assert WIDTH[after] >= WIDTH[before]
    assert WIDTH[after] > WIDTH[before] or after == before
    # What was settled is settled: the same facts change nothing more.
    assert settle(declared, after, seen, latest) == after


@given(st.one_of(st.none(), KINDS), st.one_of(st.none(), KINDS), COUNTS)
def test_no_column_is_null_everywhere_while_there_are_values(declared: Any, before: Any, seen: dict[str, int]) -> None:
    kind = settle(declared, before, seen, seen)
    if set(seen) - {"space"} and kind in FITS:
        assert set(seen) & FITS[kind]
