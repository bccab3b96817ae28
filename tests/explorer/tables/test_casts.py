"""Safe casts: exactly the text's value when it fits, else NULL, never an error, for every login."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from tests.conftest import Tenant

Connection = psycopg.Connection[tuple[Any, ...]]
CASTS = ["safe_bigint", "safe_numeric", "safe_boolean", "safe_date", "safe_time", "safe_timestamptz", "choices"]
CALLS = [f"casts.{name}(value)" for name in CASTS] + [f"casts.place_part(value, {part})" for part in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def connection(connections: Connections) -> Iterator[Connection]:
    with connections.service.connect(autocommit=True) as conn:
        conn.execute("set timezone = 'Asia/Kolkata'")
        yield conn


def cast(connection: Connection, name: str, value: str | None) -> Any:
    row = connection.execute(f"select casts.{name}(%s::text)".encode(), [value]).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("macro", "value", "result"),
    [
        ("safe_bigint", "42", 42),
        ("safe_bigint", " -7 ", -7),
        ("safe_bigint", "9223372036854775807", 9223372036854775807),
        ("safe_bigint", "9223372036854775808", None),
        ("safe_bigint", "34.5", None),
        ("safe_bigint", "12.0", 12),
        ("safe_bigint", "1.2E1", 12),
        ("safe_bigint", "120e-1", 12),
        ("safe_bigint", "9223372036854775807.0", 9223372036854775807),
        ("safe_bigint", "9223372036854775807.5", None),
        ("safe_bigint", "9.3e18", None),
        ("safe_bigint", "0x1F", None),
        ("safe_bigint", "1_000", None),
        ("safe_bigint", "", None),
        ("safe_bigint", "---", None),
        ("safe_numeric", "34.50", Decimal("34.50")),
        ("safe_numeric", "1e3", Decimal(1000)),
        ("safe_numeric", "9876543210987655", Decimal(9876543210987655)),
        ("safe_numeric", "1234567890123456789", Decimal(1234567890123456789)),
        ("safe_numeric", "0.1000000000000000055511151231257827", Decimal("0.1000000000000000055511151231257827")),
        ("safe_numeric", "NaN", None),
        ("safe_numeric", "infinity", None),
        ("safe_numeric", "1e999", None),
        ("safe_boolean", "True", True),
        ("safe_boolean", "yes", None),
        ("safe_date", "2024-02-29", date(2024, 2, 29)),
        ("safe_date", "2023-02-29", None),
        ("safe_date", "1900-02-29", None),
        ("safe_date", "0000-01-01", None),
        ("safe_date", "2024-13-01", None),
        ("safe_date", "today", None),
        ("safe_date", "01/02/2024", None),
        ("safe_time", "09:30:00.000+05:30", time(9, 30)),
        ("safe_time", "24:00", None),
        ("safe_time", "09:30:00.123456", time(9, 30, 0, 123456)),
        ("safe_time", "09:30:00.123456000", time(9, 30, 0, 123456)),
        ("safe_time", "09:30:00.1234567", None),
        ("safe_timestamptz", "2024-01-01T10:00:00.123456789Z", None),
        ("safe_timestamptz", "2024-01-01T23:59:59.9999999Z", None),
        ("safe_timestamptz", "2024-01-01T10:00:00.123456000+05:30", datetime(2024, 1, 1, 4, 30, 0, 123456, UTC)),
        ("safe_timestamptz", "2024-01-01T10:00:00.5Z", datetime(2024, 1, 1, 10, 0, 0, 500000, UTC)),
        ("safe_timestamptz", "2024-01-01T10:00:00+05:30", datetime(2024, 1, 1, 4, 30, tzinfo=UTC)),
        ("safe_timestamptz", "2024-01-01T10:00:00", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("safe_timestamptz", "2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
        ("safe_timestamptz", "now", None),
        ("safe_timestamptz", "infinity", None),
        ("choices", " a  b ", ["a", "b"]),
        ("choices", "  ", None),
    ],
)
def test_values(connection: Connection, macro: str, value: str, result: Any) -> None:
    assert cast(connection, macro, value) == result


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("-12.5 30.25 1100 8.0", ["-12.5", "30.25", "1100", "8.0"]),
        ("12.5  -3.25 341.2 8.0", ["12.5", "-3.25", "341.2", "8.0"]),
        (" \t12.5\t-3.25\n341.2   8.0 ", ["12.5", "-3.25", "341.2", "8.0"]),
        ("12.5 -3.25", ["12.5", "-3.25", None, None]),
        ("90 -180 1", ["90", "-180", "1", None]),
        ("12.5", None),
        ("12.5 -3.25 341.2 8.0 1", None),
        ("12.5 -3.25 341.2 bad", None),
        ("north 77.2 0 0", None),
        ("90.000001 0 0 0", None),
        ("0 180.5 0 0", None),
        ("0  -180.5 0 0", None),
        ("1e2 0 0 0", None),
        ("12.5,-3.25", None),
        ("  ", None),
        ("", None),
        (None, None),
    ],
)
def test_a_place_is_taken_whole_or_not_at_all(connection: Connection, place: str | None, parts: Any) -> None:
    row = connection.execute(
        b"select casts.place_part(p, 1), casts.place_part(p, 2), casts.place_part(p, 3), casts.place_part(p, 4)"
        b" from (values (%s::text)) as t (p)",
        [place],
    ).fetchone()
    assert row is not None
    assert [None if part is None else str(part) for part in row] == (parts or [None] * 4)


def test_readers_may_call_them_and_they_cost_no_call(make_tenant: Any) -> None:
    """An agent's login may; and PostgreSQL puts their expressions into the query."""
    tenant: Tenant = make_tenant()
    with tenant.ro.connect() as reader:
        row = reader.execute(f"select {', '.join(CALLS)} from (values ('12')) as t (value)".encode()).fetchone()
        assert row is not None
        assert row[:2] == (12, 12)
        texts = "(select n::text as value from generate_series(1, 9) n offset 0) as t"
        query = f"explain verbose select {', '.join(CALLS)} from {texts}"
        plan = "\n".join(line for (line,) in reader.execute(query.encode()))
        assert "casts." not in plan
        assert "CASE" in plan
    with tenant.rw.connect() as loader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        loader.execute("create function casts.safe_date(value text, more text) returns text return value")


near_misses = st.one_of(
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
    st.text("0123456789+-.:eETZ /", max_size=30),
    st.datetimes().map(str),
    st.builds(
        "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}{}".format,
        *[st.integers(0, 9999)] + [st.integers(0, 62)] * 5,
        st.sampled_from(["", "Z", "+14:59", "-15", "+0530"]),
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(near_misses)
@example("." + "0" * 100 + "1")
@example("1" * 100 + "e99")
@example("9" * 19)
def test_no_value_raises(connection: Connection, value: str) -> None:
    query = f"select {', '.join(CALLS)} from (values (%s::text)) as t (value)"
    connection.execute(query.encode(), [value])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.dates(),
    st.times(),
    st.integers(-(2**63), 2**63 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40, places=20),
)
def test_every_fitting_value_arrives(connection: Connection, day: date, clock: time, whole: int, real: Decimal) -> None:
    assert cast(connection, "safe_date", day.isoformat()) == day
    assert cast(connection, "safe_time", clock.isoformat()) == clock
    assert cast(connection, "safe_bigint", str(whole)) == whole
    assert Fraction(cast(connection, "safe_numeric", str(real))) == Fraction(real)
