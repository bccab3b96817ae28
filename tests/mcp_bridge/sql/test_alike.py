"""A hidden name gets the same answer as a name that does not exist, anywhere in a statement."""

import json

import pytest

from mcp_bridge.sql import QueryFailed, QueryRejected, ValidatedQuery
from tests.mcp_bridge.sql.clinic import Clinic

# `{s}` is a schema, `{t}` a table in it, `{f}` a function in it, `{y}` a type in it.
PLACES = (
    "select * from {s}.{t}",
    "table {s}.{t}",
    "select * from patients, {s}.{t}",
    "select * from patients join {s}.{t} using (patient_id)",
    "select (select 1 from {s}.{t})",
    "with x as (select * from {s}.{t}) table x",
    "select {s}.{t}.full_name from patients",
    "select {s}.{f}()",
    "select * from {s}.{f}()",
    "select null::{s}.{y}",
    "select cast('a' as {s}.{y})",
    "select {s}.{y} 'a'",
    "select null::{s}.{t}",
    "select '{}'::{s}.{y}[]",
    "select * from json_to_recordset('[]') as r(a {s}.{y})",
    "select * from json_table('[]'::jsonb, '$' columns (a {s}.{y} path '$')) j",
    "select 'a' collate {s}.c",
    "select 1 operator({s}.+) 1",
    "select 1 order by 1 using operator({s}.<)",
    "select 1 operator({s}.=) any (select 1)",
    "select * from patients tablesample {s}.bernoulli (1)",
    "select to_tsvector('{s}.{t}', 'x')",
    "select to_tsquery('{s}.simple', 'x')",
    "select ts_headline('{s}.{t}', 'x', plainto_tsquery('x'), '')",
    "select json_to_tsvector('{s}.{t}', '{}', '[]')",
    "select '{s}.{t}'::regclass",
    "select '{s}.{t}'::regconfig",
    "select '{s}.{f}'::regproc",
    "select '{s}.{f}()'::regprocedure",
    "select '{s}.c'::regcollation",
    "select '{s}.d'::regdictionary",
    "select '{s}.+'::regoper",
    "select '{s}.+(int,int)'::regoperator",
    "select nextval('{s}.{t}')",
    "select has_table_privilege('{s}.{t}', 'select')",
    "select pg_input_is_valid('{s}.{t}', 'regclass')",
    "select explorer.{s}.{t}.a from patients",
    "select * from explorer.{s}.{t}",
)


def _names(clinic: Clinic) -> tuple[dict[str, str], ...]:
    rival = f"{clinic.rival}_marts"
    return (
        {"s": rival, "t": "secret_plans", "f": "f_rival", "y": "mood"},
        {"s": rival, "t": "invented_123", "f": "zq_ival", "y": "moud"},
        {"s": "t_00000000_marts", "t": "secret_plans", "f": "f_rival", "y": "mood"},
        {"s": "t_00000000_marts", "t": "invented_123", "f": "zq_ival", "y": "moud"},
    )


def _put(place: str, names: dict[str, str]) -> str:
    for key, name in names.items():
        place = place.replace(f"{{{key}}}", name)
    return place


def _answer(error: QueryFailed | QueryRejected, names: dict[str, str]) -> str:
    """What the caller learns beside his own words; equally long names keep positions alike."""
    said = json.dumps(error.as_dict())
    for name in names.values():
        said = said.replace(name, "_")
    return said


@pytest.mark.parametrize("place", PLACES)
def test_the_validator_answers_alike(clinic: Clinic, place: str) -> None:
    answers = set()
    for names in _names(clinic):
        with pytest.raises(QueryRejected) as caught:
            clinic.validate(_put(place, names))
        answers.add(_answer(caught.value, names))
    assert len(answers) == 1, answers


@pytest.mark.parametrize("place", PLACES)
def test_the_database_answers_alike_behind_a_blind_validator(clinic: Clinic, place: str) -> None:
    answers = set()
    for names in _names(clinic):
        with pytest.raises(QueryFailed) as caught:
            clinic.run_unvalidated(_put(place, names))
        answers.add(_answer(caught.value, names))
    assert len(answers) == 1, answers


def test_an_error_repeats_only_names_that_the_caller_wrote_or_may_see(clinic: Clinic) -> None:
    for text, shown in (
        ("select district, count(*) from patients", '"patients.district"'),
        ("select * from patients group by district", '"patients.patient_id"'),
        ("select p.district, count(*) from patients p", '"p.district"'),
        ("select count(*), q.d from (select district as d from patients) q", '"q.d"'),
    ):
        with pytest.raises(QueryFailed) as caught:
            clinic.run(text)
        assert shown in caught.value.message
    with pytest.raises(QueryFailed) as unseen:
        clinic.run_unvalidated("select * from patients group by district")
    assert '"patients.?"' not in unseen.value.message
    assert "patient_id" not in unseen.value.message, (
        "a column that nobody wrote, of a table that was not found to be read"
    )
    assert ValidatedQuery("", frozenset()).columns == frozenset()
