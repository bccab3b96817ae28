"""What PostgreSQL would call when it stands behind a dot is refused: every function and type that it has, in every shape."""

import random
from collections.abc import Callable

import pytest

from mcp_bridge.sql import QueryRejected, fallback
from mcp_bridge.sql.allowlist import OPERATORS
from mcp_bridge.sql.rules import Rules, check_text
from tests.mcp_bridge.sql.clinic import OWN_TYPES, RELATIONS, Clinic

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
