"""Plans in words, of the real planner, under the reader's own rights and limits."""

import asyncio
from typing import Any

import pytest

from mcp_bridge.sql import Plan, QueryFailed, ValidatedQuery, explained, unjoined
from tests.mcp_bridge.sql.clinic import RELATIONS, Clinic


def plan(clinic: Clinic, query: ValidatedQuery, **limits: Any) -> Plan:
    async def read() -> Plan:
        executor = clinic.executor(**limits)
        try:
            return await executor.plan(query)
        finally:
            executor.close()

    return asyncio.run(read())


def words(clinic: Clinic, statement: str) -> dict[str, Any]:
    query = clinic.validate(statement)
    gaps = unjoined(query.text, {clinic.schema: RELATIONS})
    return explained(plan(clinic, query), query, gaps, 15.0)


@pytest.fixture(scope="module", autouse=True)
def known_sizes(clinic: Clinic) -> None:
    with clinic.owner.connect(autocommit=True) as connection:
        connection.execute(f"ANALYZE {clinic.schema}.patients, {clinic.schema}.visits".encode())


def test_a_missing_condition_is_named_with_its_rows(clinic: Clinic) -> None:
    found = words(clinic, "select count(*) from patients p, visits v")
    assert found["reads"] == [
        {"table": "visits", "rows": 40, "how": "all rows"},
        {"table": "patients", "rows": 12, "how": "all rows"},
    ]
    [hint] = found["hints"]
    assert "no condition between patients p and visits v" in hint
    assert "about 12 x 40 = 480" in hint
    assert "takes about 480 rows together: about 1" in found["steps"]
    assert found["estimated_rows"] == 1


def test_a_statement_is_not_run(clinic: Clinic) -> None:
    found = words(clinic, "select count(*) from generate_series(1, 2000000000) a, generate_series(1, 2000000000) b")
    assert "far more than the 15 s after which it is stopped" in found["in_words"]


def test_a_join_without_equality_is_told(clinic: Clinic) -> None:
    series = "(select g as x from generate_series(1, 5000) g offset 0)"
    found = words(clinic, f"select count(*) from {series} a join {series} b on a.x < b.x")
    [hint] = found["hints"]
    assert "compared with each" in hint
    assert "5,000" in hint


def test_tables_behind_a_view_are_not_named(clinic: Clinic) -> None:
    found = words(clinic, "select * from v_monthly")
    assert [each["table"] for each in found["reads"]] == ["a table behind a view"]
    assert "visits" not in str(found)


def test_many_rows_are_a_reason_to_aggregate(clinic: Clinic) -> None:
    found = words(clinic, "select g from generate_series(1, 50000) g order by g desc")
    assert (found["estimated_rows"], found["steps"]) == (50_000, ["sorts about 50,000 rows"])
    assert "aggregate" in found["hints"][0]


@pytest.mark.parametrize("statement", ["select patient from patients", "select 1 +"])
def test_errors_are_those_of_running_it(clinic: Clinic, statement: str) -> None:
    query = ValidatedQuery(statement, frozenset({"patients"}), frozenset(RELATIONS["patients"]))
    with pytest.raises(QueryFailed) as planned:
        plan(clinic, query)
    with pytest.raises(QueryFailed) as ran:
        clinic.run_unvalidated(statement)
    assert (planned.value.code, planned.value.position) == (ran.value.code, ran.value.position)


def test_the_readers_rights_and_limits_hold(clinic: Clinic) -> None:
    foreign = ValidatedQuery(f"select * from {clinic.rival}_marts.secrets", frozenset())
    with pytest.raises(QueryFailed, match="does not exist here"):
        plan(clinic, foreign)
    # Nothing behind the statement is run either, and constants are computed under the time limit.
    with pytest.raises(QueryFailed):
        plan(clinic, ValidatedQuery("select 1; drop table patients", frozenset()))
    slow = "select length(regexp_replace(repeat('ab', 20000000), '(a)(b)', '\\2\\1', 'g'))"
    with pytest.raises(QueryFailed) as caught:
        plan(clinic, ValidatedQuery(slow, frozenset()), timeout_s=0.5)
    assert caught.value.code == "timeout"
