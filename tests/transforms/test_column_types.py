"""Types of columns: what fits is what the casts take, and a type once settled only becomes wider."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from explorer_dagster.postgres.connections import Connections
from explorer_dagster.transforms.column_types import classify, settle, wider
from tests.transforms.test_casts import MACROS, near_misses

Connection = psycopg.Connection[tuple[Any, ...]]
CAST_OF = {
    "safe_bigint": {"integer", "digits"},
    "safe_double": {"integer", "digits", "decimal", "number"},
    "safe_date": {"date", "midnight"},
    "safe_timestamptz": {"date", "midnight", "datetime"},
    "safe_time": {"time"},
}
KINDS = st.sampled_from(["integer", "decimal", "date", "datetime", "time", "text", "choices", "geopoint"])
CLASSES = st.sampled_from(["integer", "digits", "decimal", "number", "date", "midnight", "datetime", "time", "text"])
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
def test_a_value_fits_here_exactly_when_its_cast_takes_it(connection: Connection, value: str) -> None:
    columns = ", ".join(f"({getattr(MACROS, macro)('value')}) is not null" for macro in CAST_OF)
    row = connection.execute(f"select {columns} from (values (%s::text)) as t (value)".encode(), [value]).fetchone()
    assert row is not None
    assert dict(zip(CAST_OF, row, strict=True)) == {
        macro: classify(value) in classes for macro, classes in CAST_OF.items()
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(near_misses)
def test_values_typed_by_themselves_come_back_as_they_were_written(connection: Connection, value: str) -> None:
    """Nothing of a value is lost when nobody declared its type: no leading zero, no sign, no digit."""
    sql_type = {"integer": "bigint", "decimal": "double precision", "date": "date"}.get(classify(value))
    if sql_type is not None:
        row = connection.execute(f"select (%s::text)::{sql_type}::text".encode(), [value]).fetchone()
        assert row is not None
        assert row[0] == value or (sql_type == "double precision" and float(row[0]) == float(value))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["2024-01-01"], "date"),
        (["2024-01-01", "2024-01-01T10:00:00Z"], "datetime"),
        (["2024-01-01", "soon"], "text"),
        (["10:00"], "time"),
        (["1"] * 19, None),
        (["1"] * 20, "integer"),
        (["1"] * 19 + ["1.5"], "decimal"),
        (["1"] * 20 + ["007"], "text"),
        (["1"] * 20 + [""], "integer"),
        (["yes"], "text"),
        ([], None),
        ([""], None),
    ],
)
def test_types_told_by_values(values: list[str], kind: str | None) -> None:
    seen = Counter(name for name in map(classify, values) if name != "blank")
    assert settle(None, None, seen, seen) == kind


def test_a_declared_type_survives_a_few_odd_values_and_no_more() -> None:
    seen = {"integer": 95, "text": 5}
    assert settle("integer", None, seen, {}) == "integer"
    assert settle("integer", "integer", {"integer": 300, "text": 40}, {"integer": 1}) == "text"
    assert settle("integer", "integer", {"integer": 300, "decimal": 40}, {"integer": 1}) == "decimal"
    assert settle("date", None, {"text": 1}, {}) == "text"
    assert settle("date", "date", {"date": 100_000, "text": 15}, {"date": 5, "text": 15}) == "text"
    assert settle("date", "date", {"date": 100_000, "text": 5}, {"text": 5}) == "date"


def test_a_type_taken_from_values_widens_with_the_first_that_needs_it() -> None:
    assert settle(None, "integer", {"integer": 1000, "decimal": 1}, {"decimal": 1}) == "decimal"
    assert settle(None, "date", {"date": 1000, "datetime": 1}, {"datetime": 1}) == "datetime"
    assert settle(None, "date", {"date": 1000, "text": 1}, {"text": 1}) == "date"


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
    fits = {
        "integer": CAST_OF["safe_bigint"],
        "decimal": CAST_OF["safe_double"],
        "date": CAST_OF["safe_date"],
        "datetime": CAST_OF["safe_timestamptz"],
        "time": CAST_OF["safe_time"],
    }
    if seen and kind in fits:
        assert set(seen) & fits[kind]
