"""Safe casts: right where a value fits, NULL where it does not, never an error."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any

import jinja2
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from explorer_dagster.postgres.connections import Connections
from tests.transforms.conftest import DBT_PROJECT

Connection = psycopg.Connection[tuple[Any, ...]]
MACROS = jinja2.Environment(autoescape=False).from_string((DBT_PROJECT / "macros" / "casts.sql").read_text()).module
CASTS = ["safe_bigint", "safe_double", "safe_boolean", "safe_date", "safe_time", "safe_timestamptz", "choices"]


@pytest.fixture(scope="module")
def connection(connections: Connections) -> Iterator[Connection]:
    with connections.service.connect(autocommit=True) as conn:
        conn.execute("set timezone = 'Asia/Kolkata'")
        yield conn


def cast(connection: Connection, macro: str, value: str | None) -> Any:
    row = connection.execute(
        f"select {getattr(MACROS, macro)('value')} from (values (%s::text)) as t (value)".encode(), [value]
    ).fetchone()
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
        ("safe_bigint", "0x1F", None),
        ("safe_bigint", "1_000", None),
        ("safe_bigint", "", None),
        ("safe_bigint", "---", None),
        ("safe_double", "34.50", 34.5),
        ("safe_double", "1e3", 1000.0),
        ("safe_double", "NaN", None),
        ("safe_double", "infinity", None),
        ("safe_double", "1e999", None),
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


def test_parts_of_a_gps_answer(connection: Connection) -> None:
    parts = ", ".join(MACROS.geopoint_part("value", part) for part in (1, 2, 3, 4))  # type: ignore[attr-defined]
    query = f"select {parts} from (values ('-12.5 30.25 1100 bad'), ('12.5'), ('')) as t (value)"
    assert connection.execute(query.encode()).fetchall() == [
        (-12.5, 30.25, 1100.0, None),
        (12.5, None, None, None),
        (None, None, None, None),
    ]


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
    columns = ", ".join(getattr(MACROS, macro)("value") for macro in CASTS)
    connection.execute(f"select {columns} from (values (%s::text)) as t (value)".encode(), [value])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.dates(),
    st.times(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e90, max_value=1e90, allow_subnormal=False),
)
def test_every_fitting_value_arrives(connection: Connection, day: date, clock: time, whole: int, real: float) -> None:
    assert cast(connection, "safe_date", day.isoformat()) == day
    assert cast(connection, "safe_time", clock.isoformat()) == clock
    assert cast(connection, "safe_bigint", str(whole)) == whole
    if abs(real) > 1e-90 or real == 0:
        assert cast(connection, "safe_double", repr(real)) == real
