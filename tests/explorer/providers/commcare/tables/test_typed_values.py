"""The rule for typed columns holds for any values in any order, tested over invented columns that change over time.

Inferred: the original text can be recovered from the typed value, and nothing becomes NULL. Declared: the typed value is the
mathematical value of the text, or NULL and named. Here Python's own parsers decide what fits, not the program's patterns.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import repeat
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connections
from explorer.providers.commcare.structure import CaseType, Form, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.scan import scan
from explorer.tables.select import select_sql
from explorer.tables.values import TableSpec
from tests.conftest import tenants

Connection = psycopg.Connection[tuple[Any, ...]]
Values = Mapping[str, Any]
BLANKS = " \t\n\r\f\v"

NUMBERS = st.one_of(
    st.integers(-50, 50),
    st.integers(-(2**64), 2**64),
    st.decimals(-(10**6), 10**6, places=3).map(lambda d: d.normalize()),
).map(Decimal)
WRITINGS: tuple[Callable[[Decimal], str], ...] = (
    lambda n: f"{n:f}",
    lambda n: f"{n:f}",
    lambda n: f"{n:f}" + ("00" if "." in f"{n:f}" else ".0"),
    lambda n: f"{n:E}",
    lambda n: f" {n:f}\t",
    lambda n: f"00{n:f}" if n >= 0 else f"{n:f}",
    lambda n: f"+{n:f}" if n >= 0 else f"{n:f}",
)
NUMBER_TEXTS = st.builds(lambda number, write: write(number), NUMBERS, st.sampled_from(WRITINGS))
DAYS = st.dates(date(1, 1, 2), date(9999, 12, 30))
INSTANTS = st.builds(
    "{}{}{}{}{}".format,
    DAYS,
    st.sampled_from("T "),
    st.times().map(lambda t: t.isoformat()),
    st.sampled_from(["", "", "000", "0001"]),
    st.sampled_from(["Z", "Z", "+00:00", "", "+05:30", "-00:00", "-03"]),
)
CLOCKS = st.builds(
    "{}{}".format, st.times().map(lambda t: t.isoformat()), st.sampled_from(["", "", "Z", "+05:30", "0001"])
)
ODD = st.sampled_from(
    [
        "---",
        "refused",
        "2 weeks",
        "0042",
        "+977984",
        "-0",
        "-0.0",
        ".5",
        "5.",
        "1e3",
        " ",
        "NaN",
        "infinity",
        "today",
        "1.10",
        "1.0",
        "10:30",
        "24:00",
        "2023-02-29",
        "0000-01-01",
        "2026-12-01 ",
        "1_000",
        "0x1F",
        "٣",
        "true",
        "{}",
        "1 2",
    ]
)
KINDS_OF_TEXT: tuple[st.SearchStrategy[str], ...] = (
    st.integers(0, 10**10).map(str), NUMBER_TEXTS, DAYS.map(str), INSTANTS, CLOCKS, st.just("9841000000"), ODD,
)  # fmt: skip
# JSON of the API is mostly texts; numbers, truths and nested values come too.
NOT_TEXTS = st.sampled_from([12, 12.5, -0.5, 10**20, True, False, {"a": 1}, ["x"], [1], None])


@st.composite
def drifting(draw: st.DrawFn) -> list[list[tuple[Any, int]]]:
    """Loads of values, each value so many times: mostly of one kind, now and then another."""
    usual = draw(st.sampled_from(KINDS_OF_TEXT))
    stray = st.one_of(*KINDS_OF_TEXT, st.just(""), NOT_TEXTS)
    loads = []
    for _ in range(draw(st.integers(1, 3))):
        values = [draw(usual if draw(st.integers(0, 7)) else stray) for _ in range(draw(st.integers(0, 4)))]
        loads.append([(value, draw(st.sampled_from([1, 1, 19, 30]))) for value in values])
    return loads


@dataclass
class Place:
    """A tenant's raw cases, and the rows of their table."""

    connection: Connection
    prefix: str

    def clear(self) -> None:
        self.connection.execute(f"truncate {self.prefix}_raw.raw_cases".encode())

    def load(self, moment: int, cases: Mapping[str, Values]) -> None:
        """Write like a load: new cases, and changed cases in place of their old rows."""
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=moment)
        rows = [(key, Jsonb({"properties": values}), at) for key, values in cases.items()]
        with self.connection.cursor() as cursor:
            cursor.executemany(
                f"insert into {self.prefix}_raw.raw_cases values (%s, 't', %s, %s) on conflict (case_id) do update"
                " set record = excluded.record, _loaded_at = excluded._loaded_at".encode(),
                rows,
            )

    def build(self, profile: Profile, structure: Structure) -> tuple[TableSpec, dict[str, dict[str, Any]]]:
        """The table of the case type and its rows by case: text as printed for numbers, else as Python has it."""
        with self.connection.transaction():
            scan(profile, self.connection, f"{self.prefix}_raw", structure.forms)
        tables = generate_tables(structure, profile, taken=())
        table = next(table for table in tables if table.kind == "case_type")
        wanted = [column for column in table.columns if column.path or column.name == "unfit_columns"]
        shown = [f"{column.name}::text" if column.type == "numeric" else column.name for column in wanted]
        cursor = self.connection.execute(f"select case_id, {', '.join(shown)} from ({select_sql(table)}) as m".encode())
        names = [column.name for column in wanted]
        return table, {case_id: dict(zip(names, values, strict=True)) for case_id, *values in cursor}


@pytest.fixture(scope="module")
def place(connections: Connections) -> Iterator[Place]:
    with tenants(connections) as make:
        tenant = make()
        with tenant.rw.connect(autocommit=True) as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute(
                f"create table {tenant.prefix}_raw.raw_cases (case_id text primary key, case_type text, record jsonb,"
                " _loaded_at timestamptz)".encode()
            )
            # What the case type's table reads of them; its other columns are of no interest here.
            keys = ("case_name", "external_id", "owner_id", "date_opened", "last_modified", "server_last_modified", "closed",
                    "date_closed", "owner_kind", "owner_name", "owner_location_path")  # fmt: skip
            connection.execute(
                f"create view {tenant.prefix}_marts.cases as select case_id, case_type, record -> 'properties' as properties,"
                f" '{{}}'::jsonb as indices, {', '.join(f'null as {key}' for key in keys)} from {tenant.prefix}_raw.raw_cases;"
                f" set search_path = {tenant.prefix}_marts".encode()
            )
            yield Place(connection, tenant.prefix)


def structure_of(kind: str | None) -> Structure:
    """One case type with property `v`: asked by a question of this kind, or by none."""
    forms = (Form("f", {}, "F", "a", "A", "m", "t", (Question(("v",), "V", kind),)),) if kind else ()
    return Structure((), (CaseType("t", ("v",), ("a",)),), forms)


def after_each_load(
    place: Place, structures: Iterable[Structure], loads: list[list[tuple[Any, int]]], changed: bool
) -> Iterator[tuple[str, dict[str, str], dict[str, dict[str, Any]], list[TypeChange]]]:
    """After each load, with the structure of that time: type, texts as `->>` gives them, rows, and the migrations so far."""
    place.clear()
    profile, cases, number = Profile(), dict[str, Values](), 0
    for moment, (load, structure) in enumerate(zip(loads, structures, strict=False), start=1):
        fresh: dict[str, Values] = {}
        for value, times in load:
            for _ in range(times):
                # Every third value replaces an older one, which is seen no more.
                key = f"c{number // 2}" if changed and number % 3 == 0 else f"c{number}"
                fresh[key] = {"v": value}
                number += 1
        cases |= fresh
        place.load(moment, fresh)
        # As between syncs.
        table, rows = place.build(profile, structure)
        texts = place.connection.execute(
            f"select case_id, record #>> '{{properties,v}}' from {place.prefix}_raw.raw_cases".encode()
        )
        column = next(column for column in table.columns if column.path == ("v",))
        yield column.type, {key: text for key, text in texts if text}, rows, profile.type_changes


def gives_back(sql_type: str, typed: Any, text: str) -> bool:
    """Whether the typed value, printed back, is the text that came."""
    if sql_type in ("text", "numeric"):
        return bool(typed == text)
    if sql_type in ("bigint", "date"):
        return str(typed) == text
    if sql_type == "timestamptz":
        said_utc = text.endswith(("Z", "+00:00"))
        return said_utc and isinstance(typed, datetime) and datetime.fromisoformat(text) == typed.astimezone(UTC)
    return isinstance(typed, time) and len(text) <= 15 and time.fromisoformat(text) == typed


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=80)
@given(drifting(), st.booleans())
@example([[("9841000000", 30)], [("0712345678", 1)], [("+9779841000099", 1)]], False)
@example([[("4000", 30), ("0042", 1)]], False)
@example([[("2026-12-01", 1)], [("refused", 4), ("2 weeks", 4)]], False)
@example([[("1.5", 30)], [("1.10", 1), ("1.1", 1)]], False)
@example([[("1", 19)], [("007", 1)], [("1", 30)]], True)
@example([[("2026-01-01T10:00:00Z", 1)], [("2026-01-01T10:00:00.1234567Z", 1)]], False)
@example([[(10**20, 30)], [(12.5, 1)]], False)
def test_inferred_types_give_back_what_came(place: Place, loads: list[list[tuple[Any, int]]], changed: bool) -> None:
    before, told = "none yet", 0
    for sql_type, texts, rows, migrations in after_each_load(place, repeat(structure_of(None)), loads, changed):
        typed = {key: row["v"] for key, row in rows.items() if row["v"] is not None}
        assert typed.keys() == texts.keys()
        assert all(gives_back(sql_type, typed[key], text) for key, text in texts.items()), (sql_type, texts)
        # Texts that differ are different values.
        if sql_type in ("bigint", "numeric", "date"):
            assert len({Decimal(v) if sql_type == "numeric" else v for v in typed.values()}) == len(set(texts.values()))
        assert all(row.get("unfit_columns") is None for row in rows.values())
        # An existing type can only become text, and this is reported; a newly inferred type is reported too.
        assert before in ("none yet", "text", sql_type) or sql_type == "text"
        changes = [(change.before, change.after) for change in migrations]
        assert len(changes) == len(set(changes)) == told + (before not in ("none yet", sql_type))
        before, told = sql_type, len(changes)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=80)
@given(st.sampled_from(["Int", "Double", "Date", "DateTime", "Time"]), drifting(), st.booleans())
@example("Int", [[("7", 30), ("12.0", 1), ("1.2E1", 1)]], False)
@example("Double", [[("9876543210987655", 1), ("1234567890123456789", 1)]], False)
@example("DateTime", [[("2026-01-01T10:00:00.1234567Z", 1), ("2026-01-01T10:00:00Z", 30)]], False)
@example("Int", [[("9223372036854775808", 1), ("1", 30), ("1e-1", 1)]], False)
def test_declared_types_hold_the_value_of_the_text_or_name_it(
    place: Place, kind: str, loads: list[list[tuple[Any, int]]], changed: bool
) -> None:
    for sql_type, texts, rows, _ in after_each_load(place, repeat(structure_of(kind)), loads, changed):
        assert sql_type == "text" or sql_type in (WIDENED[kind])
        for key, row in rows.items():
            text, typed, is_named = texts.get(key, ""), row["v"], "v" in (row.get("unfit_columns") or ())
            if sql_type == "text":
                assert (typed or "", is_named) == (text, False)
            elif typed is None:
                assert is_named == bool(text.strip(BLANKS))
                assert not must_fit(sql_type, text), (sql_type, text)
            else:
                assert not is_named
                assert value_of(sql_type, text.strip(BLANKS), typed), (sql_type, text, typed)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=80)
@given(
    st.lists(
        st.sampled_from([None, "DataBindOnly", "Int", "Double", "Date", "DateTime", "Time"]), min_size=3, max_size=3
    ),
    drifting(),
    st.booleans(),
)
@example([None, "Int", None], [[("7", 30)], [("12.0", 1)], [("13.0", 1), ("x", 1)]], False)
@example(["Int", "DataBindOnly", "Int"], [[("7", 30), ("12.0", 1)], [("8", 1)], [("13.0", 1)]], False)
@example(["DateTime", "DataBindOnly", None], [[("2026-01-01", 30)], [("2026-01-02", 1)], [("soon", 1)]], False)
def test_what_declares_a_type_may_come_and_go(
    place: Place, kinds: list[str | None], loads: list[list[tuple[Any, int]]], changed: bool
) -> None:
    """Declared is what a question last said of it, also when it is gone; hidden values and what nobody asked are not."""
    said, had_type, is_lost = None, False, False
    for kind, (sql_type, texts, rows, _) in zip(
        kinds, after_each_load(place, map(structure_of, kinds), loads, changed), strict=False
    ):
        said = kind or said
        # A few numbers are text until there are twenty; a column that had a type and lost it is text for good.
        assert not is_lost or sql_type == "text"
        is_lost = is_lost or (had_type and sql_type == "text")
        had_type = had_type or sql_type != "text"
        for key, text in texts.items():
            typed, is_named = rows[key]["v"], "v" in (rows[key].get("unfit_columns") or ())
            if said in (None, "DataBindOnly"):
                assert gives_back(sql_type, typed, text), (sql_type, text, typed)
            elif sql_type == "text":
                assert (typed, is_named) == (text, False)
            else:
                assert is_named == (typed is None and bool(text.strip(BLANKS)))
                assert typed is None or value_of(sql_type, text.strip(BLANKS), typed), (sql_type, text, typed)


WIDENED = {
    "Int": ("bigint", "numeric"),
    "Double": ("numeric",),
    "Date": ("date", "timestamptz"),
    "DateTime": ("timestamptz",),
    "Time": ("time",),
}


def value_of(sql_type: str, text: str, typed: Any) -> bool:
    """Whether this is what the text says."""
    if sql_type in ("bigint", "numeric"):
        return Fraction(typed) == Fraction(Decimal(text))
    if sql_type == "time":
        clock = text[: len(text) - len(text.lstrip("0123456789:."))] or text.rstrip("Z").partition("+")[0]
        return time.fromisoformat(_no_zeros(clock)) == typed
    moment = datetime.fromisoformat(_no_zeros(text))
    if sql_type == "date":
        return moment.date() == typed and moment.time() == time()
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) == typed


def _no_zeros(text: str) -> str:
    """Without zeros behind the microseconds, which Python would not read; its rounding would hide what is finer."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    assert not digits[6:].strip("0"), text
    return f"{head}{dot}{digits[:6]}{rest[len(digits) :]}"


def must_fit(sql_type: str, text: str) -> bool:
    """Numbers that have a place in the type, as far as Python reads them so."""
    if sql_type not in ("bigint", "numeric") or len(text) > 40 or not set(text) <= set("0123456789+-.eE" + BLANKS):
        return False
    try:
        number = Decimal(text.strip(BLANKS))
    except ArithmeticError:
        return False
    return sql_type == "numeric" or (number == int(number) and -(2**63) <= int(number) < 2**63)


def test_values_classed_by_older_rules_are_looked_at_anew_once(place: Place) -> None:
    """Older rules inferred more types and had double precision: names stay, values change, each change is reported."""
    place.clear()
    phones = [f"98410000{number:02d}" for number in range(30)] + ["0712345678"]
    place.load(
        1,
        {
            f"c{number}": {
                "phone": phone,
                "count": str(number),
                "seen": "refused" if number else "2026-12-01",
                "at": f"2026-01-01T10:00:{number:02d}+05:30",
                "ratio": f"{number}.5",
                "weight": "1234567890123456789" if number else "2.5",
                "note": "x",
            }
            for number, phone in enumerate(phones)
        },
    )
    kinds = {
        "phone": "integer",
        "count": "integer",
        "seen": "date",
        "at": "datetime",
        "ratio": "decimal",
        "weight": "decimal",
    }
    old = {
        "cases_until": "2026-01-01 01:00:00+00",
        "forms_until": "-infinity",
        "case_types": {
            "t": {
                "properties": {name: {"all": {"digits": 31}, "latest": {}} for name in [*kinds, "gone"]},
                "indices": ["parent"],
            }
        },
        "forms": {},
        "forms_known": {},
        "tables": {
            "case_type t": {
                "wish": "case_t",
                "name": "case_t_1",
                "columns": {name: {"kind": kind, "part": 1} for name, kind in kinds.items()},
                "names": {"phone": ["phone", "phone_1"]},
            }
        },
        "migrations": [],
    }
    schemas = TenantSchemas(place.prefix)
    staging = schemas.staging
    Profile.read(place.connection, schemas)
    place.connection.execute(f"insert into {staging}.explorer_profile values (%s)".encode(), [json.dumps(old)])
    form = Form("f", {}, "F", "a", "A", "m", "t", (Question(("weight",), "W", "Double"),))
    structure = Structure((), (CaseType("t", ("phone",), ("a",)),), (form,))
    profile = Profile.read(place.connection, schemas)
    table, rows = place.build(profile, structure)
    types = {column.path[0]: (column.name, column.type) for column in table.columns if column.path}
    assert table.name == "case_t_1"
    assert types == {
        "phone": ("phone_1", "text"),
        "count": ("count", "bigint"),
        "seen": ("seen", "text"),
        "at": ("at", "text"),
        "ratio": ("ratio", "numeric"),
        "weight": ("weight", "numeric"),
        "note": ("note", "text"),
        "gone": ("gone", "text"),
        "parent": ("parent_case_type", "text"),
    }
    assert (rows["c30"]["phone_1"], rows["c30"]["weight"]) == ("0712345678", "1234567890123456789")
    assert {(change.column, change.before, change.after) for change in profile.type_changes} == {
        ("phone", "integer", "text"),
        ("seen", "date", "text"),
        ("at", "datetime", "text"),
        ("ratio", "double precision", "numeric"),
        ("weight", "double precision", "numeric"),
    }
    assert {change.table for change in profile.type_changes} == {"case_t_1"}
    profile.write(place.connection, schemas)
    # Once: the next sync finds it done.
    again = Profile.read(place.connection, schemas)
    assert again == profile
    assert again.cases_until == "2026-01-01 01:00:00+00"
    place.build(again, structure)
    assert again.type_changes == profile.type_changes
    # A run that was killed before it could report them leaves that to the next one.
    again.write(place.connection, schemas)
    assert Profile.read(place.connection, schemas).unreported_changes == tuple(profile.type_changes)
    Profile.mark_reported(place.connection, schemas)
    told = Profile.read(place.connection, schemas)
    assert (told.unreported_changes, told.type_changes) == ((), profile.type_changes)
    place.connection.execute(f"drop table {staging}.explorer_profile".encode())
