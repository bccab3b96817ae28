"""The lineage of a model's columns is read from its compiled SQL: what is certain, and nothing else."""

from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.marts.lineage import lineage_of

COLUMNS = {"t_marts": {"cases": [("case_id", "text"), ("closed", "boolean"), ("properties", "jsonb")]}}
CASES = '"explorer"."t_marts"."cases"'


def told(sql: str) -> dict[str, ColumnLineage]:
    return lineage_of("m", sql, COLUMNS)


def test_columns_are_followed_through_the_steps_of_a_model() -> None:
    found = told(
        f"with cases as (select * from {CASES}), counted as (select case_id, count(*) as n from cases group by 1)"
        " select counted.case_id, n, cases.closed or false as closed from counted join cases using (case_id)"
    )
    assert found["case_id"] == ColumnLineage((Origin("cases", "case_id"),))
    assert found["n"] == ColumnLineage((), "COUNT(*)")
    assert found["closed"].origins == (Origin("cases", "closed"),)


def test_within_json_the_path_is_told() -> None:
    found = told(
        f"select properties -> 'a' ->> 'b' as b, casts.safe_date(properties ->> 'dob') as dob, f(properties) ->> 'c' as c,"
        f" jsonb_build_object('k', properties -> 'a') as made from {CASES}"
    )
    assert found["b"].origins == (Origin("cases", "properties", ("a", "b")),)
    assert found["dob"].origins == (Origin("cases", "properties", ("dob",)),)
    assert found["c"].origins == (Origin("cases", "properties"),)
    assert found["made"].origins == (Origin("cases", "properties", ("a",)),)


def test_sql_that_is_not_understood_tells_nothing() -> None:
    assert told("select from where") == {}
    assert told("select a from elsewhere.unknown.relation").get("a", ColumnLineage()).expression is None
    assert "*" not in told("select * from elsewhere.unknown.relation")
