"""The validator's answers, also for arbitrary text."""

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_bridge.sql import QueryRejected, ValidatedQuery, validate
from mcp_bridge.sql.validation import fallback
from mcp_bridge.sql.validation.allowlist import FUNCTIONS
from mcp_bridge.sql.validation.rules import MAX_STATEMENT_BYTES, Rules, check_text
from mcp_bridge.sql.validation.validator import PARSER
from tests.mcp_bridge.sql.clinic import RELATIONS as CLINIC
from tests.mcp_bridge.sql.clinic import Clinic
from tests.mcp_bridge.sql.test_corpora import HOSTILE, LEGIT

SCHEMAS = frozenset({"t_own_marts"})
RELATIONS = {"t_own_marts": {name: CLINIC[name] for name in ("patients", "visits")}}
SEEDS = [case["sql"].replace("{own}", "t_own").replace("{rival}", "t_riv") for case in HOSTILE + LEGIT]


def check(sql: str) -> ValidatedQuery:
    return validate(sql, schemas=SCHEMAS, relations=RELATIONS)


def refusal(sql: str) -> QueryRejected:
    with pytest.raises(QueryRejected) as caught:
        check(sql)
    return caught.value


def test_postgresqls_own_parser_is_used_here() -> None:
    assert PARSER == "libpg_query"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("", "empty"),
        ("-- nothing", "empty"),
        ("select 1; select 2", "multiple_statements"),
        ("delete from patients", "not_a_select"),
        ("explain select 1", "not_a_select"),
        ("select * into t from patients", "select_into"),
        ("with d as (delete from patients returning 1) table d", "data_modifying_cte"),
        ("select * from patients for update", "locking"),
        ("select $1", "parameter"),
        ("select * from pg_class", "unknown_relation"),
        ("with pg_x as (select 1) table pg_x", "reserved_name"),
        ("select pg_sleep(1)", "function_not_allowed"),
        ("select 1::regclass", "type_not_allowed"),
        ("select 1 operator(x.+) 1", "operator_not_allowed"),
        ("select 'a' collate x.y", "collation_not_allowed"),
        ("select xmin from patients", "system_column"),
        ("select xmlelement(name a)", "unsupported_syntax"),
        ("selec 1", "syntax_error"),
        ("select '" + "x" * MAX_STATEMENT_BYTES + "'", "too_long"),
        ("select " + "(" * 300 + "1" + ")" * 300, "too_complex"),
        ("select " + "+".join("1" * 2000), "too_complex"),
        ("select 1 \u202e", "invalid_text"),
        ("select '\ud800'", "invalid_text"),
    ],
)
def test_each_refusal_has_its_code_and_a_next_step(sql: str, code: str) -> None:
    error = refusal(sql)
    assert error.as_dict()["code"] == code
    assert error.next_step


def test_a_position_counts_characters_of_the_callers_text() -> None:
    error = refusal("select 'äöü',\n  pg_sleep(1)")
    assert error.details["position"] == len("select 'äöü',\n  ") + 1
    assert (error.details["line"], error.details["column"]) == (2, 3)
    assert refusal("select 'äöü' from patients frm x y").position == len("select 'äöü' from patients frm ") + 1


def test_likely_names_come_only_from_the_tenants_own_relations() -> None:
    assert refusal("select * from pateints").did_you_mean == ["patients"]
    assert refusal("select * from pg_clas").did_you_mean == []


def test_foreign_and_absent_schemas_are_answered_alike() -> None:
    foreign, absent = refusal("select * from t_riv_marts.x"), refusal("select * from t_zzz_marts.x")
    assert foreign.code == absent.code
    assert foreign.message.replace("t_riv", "") == absent.message.replace("t_zzz", "")


def test_a_name_that_was_not_written_so_is_not_echoed() -> None:
    assert "t_riv" not in str(refusal('select * from U&"t\\005friv_marts".x'))
    assert "t_riv" not in str(refusal("select * from T_RIV_MARTS.X"))


def test_tables_are_the_relations_read_and_not_the_with_queries() -> None:
    query = check("with v as (select * from visits) select * from v, t_own_marts.patients; -- done")
    assert query.tables == {"visits", "patients"}
    assert query.text == "with v as (select * from visits) select * from v, t_own_marts.patients"


def test_relations_may_be_told_by_schema() -> None:
    by_schema: dict[str, dict[str, tuple[str, ...]]] = {
        "t_own_marts": {"patients": ("patient_id",)},
        "t_own_raw": {"forms": ("form_id",)},
    }
    both = frozenset(by_schema)
    assert validate("select * from t_own_raw.forms, patients", schemas=both, relations=by_schema).tables == {
        "forms",
        "patients",
    }
    with pytest.raises(QueryRejected):
        validate("select * from t_own_raw.patients", schemas=both, relations=by_schema)


GROWING = {
    "recursions in recursions": lambda n: _nested(
        "with recursive r as (select 1 a union all select r.a from r, ({}) z) select a from r", n
    ),
    "stars over stars": lambda n: "with c0 as (select * from patients)"
    + "".join(f", c{i + 1} as (select a.*, b.* from c{i} a, c{i} b)" for i in range(n)) + f" select 1 from c{n}",
    "rows over rows": lambda n: "with c0 as (select p as x from patients p)"
    + "".join(f", c{i + 1} as (select c{i}, c{i} as x from c{i})" for i in range(n)) + f" select 1 from c{n}",
    "queries that read each other": lambda n: "with recursive "
    + ", ".join(f"c{i} as (select 1 from c{(i + 1) % (4 * n)})" for i in range(4 * n)) + " select 1",
    "natural joins": lambda n: "select 1 from patients" + "".join(f" natural join patients p{i}" for i in range(3 * n)),
}  # fmt: skip


def _nested(around: str, times: int) -> str:
    text = "select 1 a"
    for _ in range(times):
        text = around.replace("{}", text)
    return text


@pytest.mark.parametrize("grown", GROWING.values(), ids=GROWING.keys())
def test_checking_a_statement_takes_no_longer_than_it_is_long(grown: Callable[[int], str]) -> None:
    """Each would double the work, or square it, with every step."""
    for times in (5, 40, 80):
        started = time.monotonic()
        try:
            check(grown(times))
        except QueryRejected as error:
            assert error.as_dict()["code"] in {"too_complex", "too_long", "unsupported_syntax"}  # noqa: PT017
        assert time.monotonic() - started < 20


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A statement of the corpora with pieces of others spliced in, characters dropped or doubled."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = draw(st.integers(at, min(len(text), at + 12)))
        donor = draw(st.sampled_from(SEEDS))
        start = draw(st.integers(0, len(donor)))
        piece = draw(
            st.sampled_from(["", "'", '"', "(", ")", "--", "/*", "$$", ".", "::", ";", "\x00", "é"])
            | st.just(donor[start : start + 15])
        )
        text = text[:at] + piece + text[end:]
    return text


@settings(max_examples=150, deadline=None)
@given(mutated() | st.text(max_size=60))
@example('set statement_timeout ="" 0')
def test_any_text_is_accepted_or_refused_but_never_an_accident(sql: str) -> None:
    for run in (check, _fallback):
        try:
            run(sql)
        except QueryRejected as error:
            assert error.next_step  # noqa: PT017


def _fallback(sql: str) -> None:
    check_text(sql)
    fallback.check_statement(sql, Rules(sql, SCHEMAS, RELATIONS, frozenset()))


@settings(max_examples=80, deadline=None)
@given(mutated())
def test_what_the_fallback_accepts_postgresqls_parser_accepts_too(sql: str) -> None:
    """Texts that only sqlglot can read are harmless; texts that both read must not be refused by the stricter tree alone."""
    try:
        _fallback(sql)
    except QueryRejected:
        return
    try:
        check(sql)
    except QueryRejected as error:
        assert error.as_dict()["code"] in {"syntax_error", "empty", "too_complex"}  # noqa: PT017


def test_each_allowed_function_may_be_executed_by_the_reader(clinic: Clinic) -> None:
    with clinic.admin.connect(autocommit=True) as conn:
        rows = conn.execute(
            "SELECT proname, bool_or(has_function_privilege(%s, oid, 'execute')) FROM pg_proc"
            " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY(%s) GROUP BY 1",
            [clinic.reader.user, sorted(FUNCTIONS)],
        ).fetchall()
    assert [name for name, may in rows if not may] == []


def test_no_allowed_function_takes_or_gives_an_objects_number(clinic: Clinic) -> None:
    """regconfig names a text search configuration and prints nothing; pg_typeof has a rule of its own."""
    with clinic.admin.connect(autocommit=True) as conn:
        rows = conn.execute(
            "SELECT DISTINCT proname::text FROM pg_proc, unnest(proargtypes::oid[] || prorettype) AS t(oid)"
            " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY(%s)"
            " AND t.oid IN ('regclass'::regtype, 'regproc'::regtype,"
            " 'regprocedure'::regtype, 'regoper'::regtype,"
            " 'regoperator'::regtype, 'regtype'::regtype, 'regrole'::regtype,"
            " 'regnamespace'::regtype, 'regcollation'::regtype,"
            " 'regdictionary'::regtype, 'aclitem'::regtype, 'refcursor'::regtype)",
            [sorted(FUNCTIONS)],
        ).fetchall()
    assert rows == [("pg_typeof",)]
