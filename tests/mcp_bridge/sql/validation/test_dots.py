"""A name after a dot that PostgreSQL would call as a function is refused: every function and type, in every shape."""

import random
from collections.abc import Callable, Iterator

import psycopg
import pytest

from mcp_bridge.sql import QueryRejected
from mcp_bridge.sql.validation import fallback
from mcp_bridge.sql.validation.allowlist import OPERATORS
from mcp_bridge.sql.validation.rules import Rules, check_text
from tests.mcp_bridge.sql.clinic import OWN_TYPES, RELATIONS, Clinic
from tests.mcp_bridge.sql.dotted import Dotted

# `{f}` stands behind a dot where it is no column. Some statements give that very name elsewhere: it must not help.
SHAPES = (
    "select x.{f} from generate_series(1, 9) x",
    "select (x).{f} from generate_series(1, 9) x",
    "select (x::text).{f} from generate_series(1, 9) x",
    "select ((x::text).textout).{f}::text from generate_series(1, 9) x",
    "select (x + 1).{f} from generate_series(1, 9) x",
    "select ('10').{f}",
    "select (array[16400])[1].{f}",
    "select (select 16400).{f}",
    "select (coalesce(16400, 1)).{f}",
    "select (case when true then 16400 end).{f}",
    "select (row(16400, 1)).f1.{f}",
    "select (nullif(16400, 1)).{f}",
    "select (p).{f} from patients p",
    "select p.{f} from patients p",
    "select (p.*).{f} from patients p",
    "select ((p).full_name).{f} from patients p",
    "select (p.full_name).{f} from patients p",
    "select {own}_marts.patients.{f} from {own}_marts.patients",
    "select q.{f} from (select 16400 as a) q",
    "select (q.a).{f} from (select 16400 as a) q",
    "select (q).a.{f} from (select 16400 as a) q",
    "with q(a) as (select 16400) select q.{f} from q",
    "with recursive q(a) as (select 16400 union all select q.{f} from q) select a from q",
    "select v.{f} from (values (16400)) v(a)",
    "select u.{f} from unnest(array[16400]) u",
    "select r.{f} from jsonb_to_recordset('[]') as r(a int)",
    "select t.{f} from json_table('[]'::jsonb, '$' columns (a int path '$')) t",
    "select z.{f} from (patients join visits using (patient_id)) as z",
    "select j.{f} from patients join visits using (patient_id) as j",
    "select 1 from patients p order by p.{f}",
    "select 1 from patients p group by (p).{f}",
    "select 1 from patients p where exists (select 1 from visits v where v.visit_id = p.{f})",
    "select 1 from patients p join visits v on v.{f} = p.patient_id",
    "select count(*) filter (where p.{f} is null) from patients p",
    "select sum(1) over (order by (p).{f}) from patients p",
    "select * from patients p, lateral (select p.{f}) z",
    "select (select x.{f} from generate_series(1, 9) x) from (select 1 as {f}) x",
    'select x.{f}, y."{plain}" from generate_series(1, 9) x, (select 1 as {f}) y',
    "with {f} as (select 1) select (x).{f} from generate_series(1, 9) x",
    "select x.{f} as {f} from generate_series(1, 9) x",
    "select (array_agg(x))[1].{f} from generate_series(1, 9) x",
    "select ((table patients limit 1)).{f}",
    "values ((16400).{f})",
    "select 1 limit (16400).{f}",
    "select json_object('a': (16400).{f})",
    # The name is a column of what PostgreSQL does not see there: neighbours without LATERAL, other parts of FROM, output names,
    # arrays of rows.
    "select s.* from generate_series(1, 9) z, lateral (select q.* from (select 1 as {f}) z, (select (z).{f} as y) q) s",
    "select s.* from generate_series(1, 9) z, lateral (select q.* from (select 1 as {f}) z, (select z.{f} as y) q) s",
    "select (select q as z from (select 1 as {f}) q order by (z).{f} limit 1) from generate_series(1, 9) z",
    "select (select 1 from (select 1 as {f}) z, patients a join patients b on z.{f} is null) from generate_series(1, 9) z",
    "select (select 1 from (select 1 as {f}) z, patients tablesample bernoulli (z.{f})) from generate_series(1, 9) z",
    "select (array_agg(q)).{f} from (select 1 as {f}) q",
    "select (array_agg(q))[1:2].{f} from (select 1 as {f}) q",
    "select (array(select q from (select 1 as {f}) q)).{f}",
)
# As many functions and types as the server has are tried in one shape each, these in all.
EVERYWHERE = (
    "regclassin",
    "textout",
    "regrole",
    "pg_sleep",
    "to_regclass",
    "current_setting",
    "format_type",
    "text",
    "lower",
    "f0",
)


@pytest.fixture(scope="module")
def names(clinic: Clinic) -> list[str]:
    """Everything that can be called with one argument."""
    with clinic.admin.connect(autocommit=True) as conn:
        rows = conn.execute(
            "SELECT proname::text FROM pg_proc WHERE pronargs >= 1 AND pronargs - pronargdefaults <= 1"
            " UNION SELECT typname::text FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        ).fetchall()
    own = {column for columns in RELATIONS.values() for column in columns} | {"a", "x", "f1", "f2"}
    return sorted({row[0] for row in rows} - own)


def _libpg(clinic: Clinic, statement: str) -> None:
    clinic.validate(statement)


def _fallback(clinic: Clinic, statement: str) -> None:
    check_text(statement)
    rules = Rules(statement, frozenset({clinic.schema}), {clinic.schema: RELATIONS}, OWN_TYPES)
    fallback.check_statement(statement, rules)


def _accepted(clinic: Clinic, check: Callable[[Clinic, str], None], statements: list[str]) -> list[str]:
    passed = []
    for statement in statements:
        try:
            check(clinic, statement)
            passed.append(statement)
        except QueryRejected as refusal:
            assert refusal.next_step  # noqa: PT017
    return passed


@pytest.mark.parametrize("check", [_libpg, _fallback])
def test_nothing_that_can_be_called_stands_behind_a_dot(
    clinic: Clinic, names: list[str], check: Callable[[Clinic, str], None]
) -> None:
    assert len(names) > 1000
    pick = random.Random(20).choice
    chosen = [(name, pick(SHAPES)) for name in names] + [(name, shape) for name in EVERYWHERE for shape in SHAPES]
    statements = [_filled(clinic, shape, name) for name, shape in chosen]
    assert _accepted(clinic, check, statements) == []


def _filled(clinic: Clinic, shape: str, name: str) -> str:
    quoted = f'"{name}"'
    return clinic.fill(shape).replace("{f}", quoted).replace("{plain}", name)


@pytest.mark.parametrize("check", [_libpg, _fallback])
@pytest.mark.parametrize("spelled", ['U&"reg\\0063lass"', "REGCLASS", '"regclass"', "regclass/**/", "\n regclass"])
def test_however_it_is_spelled(clinic: Clinic, check: Callable[[Clinic, str], None], spelled: str) -> None:
    statements = [clinic.fill(shape).replace("{f}", spelled) for shape in SHAPES if "{plain}" not in shape]
    assert _accepted(clinic, check, statements) == []


TYPES = """
    regclass regrole regnamespace regprocedure regtype regconfig oid aclitem xid tid pg_lsn refcursor cstring record xml point
    polygon pg_class information_schema.sql_identifier pg_catalog.regclass nosuch
""".split()  # noqa: SIM905


@pytest.mark.parametrize(
    "shape",
    [
        "select '1'::{t}",
        "select cast('1' as {t})",
        "select {t} '1'",
        "select '{1}'::{t}[]",
        "select null::{t}",
        "select '1'::text::{t}::text",
        "select array['1']::{t}[]",
        "select * from json_to_recordset('[]') as r(a {t})",
        "select * from rows from (jsonb_to_record('{}') as (a {t})) r",
        "select json_value('1', '$' returning {t})",
        "select json_serialize('1' returning {t})",
        "select * from json_table('[]'::jsonb, '$' columns (a {t} path '$')) j",
    ],
)
@pytest.mark.parametrize("check", [_libpg, _fallback])
def test_a_type_that_is_none_for_values_is_nowhere(
    clinic: Clinic, check: Callable[[Clinic, str], None], shape: str
) -> None:
    assert _accepted(clinic, check, [shape.replace("{t}", type_) for type_ in TYPES]) == []


def test_every_operator_that_is_not_listed_is_refused(clinic: Clinic) -> None:
    with clinic.admin.connect(autocommit=True) as conn:
        every = {
            row[0]
            for row in conn.execute("SELECT DISTINCT oprname::text FROM pg_operator WHERE oprleft <> 0").fetchall()
        }
    others = [f"select 1 operator(pg_catalog.{name}) 1" for name in sorted(every - OPERATORS)]
    assert len(others) > 10
    assert _accepted(clinic, _libpg, others) == []


# What is tried here in one run; the generator has no end.
DOTTED = 1500


@pytest.fixture(scope="module")
def callable_name(clinic: Clinic) -> Iterator[None]:
    """A function that takes anything and says that it was called; its name is `marked`."""
    with clinic.owner.connect(autocommit=True) as conn:
        conn.execute(f"SET search_path = {clinic.schema}".encode())
        conn.execute("CREATE FUNCTION marked(anyelement) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'CALLED' $$")
        conn.execute(f"GRANT EXECUTE ON FUNCTION marked(anyelement) TO {clinic.reader.user}".encode())
        yield
        conn.execute("DROP FUNCTION marked(anyelement)")


@pytest.mark.usefixtures("callable_name")
def test_a_name_that_the_statement_gives_is_never_called(clinic: Clinic) -> None:
    """PostgreSQL itself says whether what was accepted is a column: rows of every origin, handed on in every way."""
    assert clinic.raw("select (g).marked from generate_series(1, 1) as g(marked)") == [("CALLED",)]
    dotted, ran, called = Dotted(7), 0, []
    with clinic.reader.connect(autocommit=True) as conn:
        conn.execute(f"SET search_path = {clinic.schema}, casts".encode())
        conn.execute("SET statement_timeout = '2s'")
        for _ in range(DOTTED):
            statement = clinic.fill(dotted.statement())
            if not _accepted(clinic, _libpg, [statement]) and not _accepted(clinic, _fallback, [statement]):
                continue
            try:
                answer = str(conn.execute(statement.encode()).fetchall())
            except psycopg.Error:
                continue
            ran += 1
            called += [statement] if "CALLED" in answer else []
    assert called == []
    assert ran > DOTTED // 60, "some of them are honest"


def test_what_is_a_column_there_stays_one(clinic: Clinic) -> None:
    for statement, first in (
        ("select (g).n from generate_series(7, 8) with ordinality as g(n, o)", 7),
        ("select (q).total from (select count(*) as total from patients) q", 12),
        ("select (x.y).total from (select q as y from (select 5 as total) q) x", 5),
        ("select (coalesce(p, p)).patient_id from patients p order by 1", 1),
        ("select (array_agg(p order by patient_id))[1].patient_id from patients p", 1),
        ("select (row(p.*, 4)).f1 from patients p order by 1", 1),
        ("select v.column2 from patients p, lateral (values (p.*)) v order by p.patient_id", "Ben 1"),
        ("select (u).patient_id from (select array_agg(p order by patient_id) a from patients p) z, unnest(z.a) u", 1),
        ("select t.t from patients, unnest(tags) t order by patient_id", "a"),
        ("select s.s from unnest(string_to_array('x,y', ',')) s", "x"),
        (
            "select j.b from json_table('1', '$' columns (nested path '$' columns (b int path '$'), a int path '$')) j",
            1,
        ),
        ("select (e).key from json_each('{\"k\": 1}') e", "k"),
    ):
        assert clinic.run(statement).rows[0] == [first], statement


# Names for objects, given by the statement itself, behind rows that only seem to have such a column.
@pytest.mark.parametrize(
    "shape",
    [
        "select (g).{f}::text from generate_series(16384, 17000) g({f})",
        "select array[(coalesce(q, q)).{f}, '16400'] from (select 1 as {f}) q",
        "select array[(lag(p) over ()).{f}, '16400'] from patients p({f})",
        "select array[(select p from patients p({f}) limit 1).{f}, '16400']",
        "select array[u.{f}, '16400'] from (select array_agg(p) as a from patients p({f})) z, unnest(z.a) u",
        "select ((row(p.*)).f1).{f}::text from patients p({f})",
        "select (v.column1).{f}::text from patients p({f}), lateral (values (p.*)) v",
        "select array[x.{f}, '16400'] from (select (select {f}.* from (select 1 as a) {f})) x",
        "select array[{f}.{f}, '16400'] from unnest(to_tsvector('simple', 'a')) {f}",
        "select array[((x.y).a).{f}, '16400'] from (select q as y from (select z as a from (select 1 as {f}) z) q) x",
        "select (values (1), (2) order by (column1).{f} limit 1) from (select q as column1 from (select 1 as {f}) q) z",
        "select array(select q as a from (select 1 as {f}) q union all select 1 limit length((a).{f}::text)) from patients a",
        "select array[j.{f}] from json_table('1', '$' columns (nested path '$' columns (b int path '$'), {f} int path '$')) j(a)",
    ],
)
@pytest.mark.parametrize("check", [_libpg, _fallback])
@pytest.mark.parametrize("name", ["regclass", "pg_typeof", "textout", "ts_stat"])
def test_a_name_given_elsewhere_does_not_help(
    clinic: Clinic, check: Callable[[Clinic, str], None], shape: str, name: str
) -> None:
    assert _accepted(clinic, check, [shape.replace("{f}", name)]) == []
