"""Errors for SQL that agents write out of habit say what to write here."""

import pytest

from mcp_bridge.sql import QueryFailed, QueryRejected
from tests.mcp_bridge.sql.clinic import Clinic

# What was sent, and words of the advice.
HABITS = [
    ("select * from patients where tags = 'a'", "= ANY (column)"),
    ("select * from patients where tags in ('a', 'b')", "= ANY (column)"),
    ("select * from patients where tags like '%a%'", "= ANY (column)"),
    ("select * from patients where 'a' in tags", "= ANY (column)"),
    ("select * from patients where 'a' = any(district)", "IN ('a', 'b')"),
    ("select avg(tags) from patients", "unnest(x)"),
    ("select array_length(tags) from patients", "cardinality(x)"),
    ("select unnest(full_name) from patients", "string_to_array"),
    ("select string_agg(full_name) from patients", "separator"),
    ("select * from patients where born ilike '2020%'", "x::text"),
    ("select sum(born) from patients", "date_trunc"),
    ("select born - '1 day' from patients", "interval '1 day'"),
    ("select born + 1.5 from patients", "interval '1 day'"),
    ("select * from patients where born < '2020-02-30'", "no such date"),
    ("select safe_date(born) from patients", "use it as it is"),
    ("select coalesce(mother_id, 'none') from patients", "'none' stands where another type"),
    ("select case when born is null then 1 else 'other' end from patients", "x::text"),
    ("select full_name::json from patients", "jsonb"),
    ("select answers.foo from visits", "answers ->> 'key'"),
    ("select cast(full_name as string) from patients", "write text"),
    ("select cast(born as datetime) from patients", "write timestamptz"),
    ("select count(*) where district = 'north'", "no FROM"),
    ("select district d, count(*) n from patients group by d having n > 1", "repeat the expression"),
    ("select row_number() over (order by born) as rn from patients where rn = 1", "repeat the expression"),
    ("select * from patients limit 5 where patient_id > 1", "LIMIT stands last"),
    ("select * from patients p left join visits v where p.patient_id = v.patient_id", "ON a.x = b.x"),
    ("select * from 'patients'", "not in single ones"),
    ("select * from patients where rownum < 5", "LIMIT"),
    ("select distinct on district full_name from patients", "DISTINCT ON (column)"),
    ("select concat(full_name, ) from patients", "comma"),
    ("describe patients", "describe_table"),
    ("select rank() from patients", "OVER"),
    ("select max(count(*)) from patients group by district", "subquery"),
    ("select nvl2(born, 1, 2) from patients", "CASE WHEN"),
    ("select split(full_name, ' ') from patients", "string_to_array"),
    ("select * from public.patients", "Did you mean patients"),
    ('select * from "Patients"', "Did you mean patients"),
    ("select * from [patients]", 'quoted with "'),
]


@pytest.mark.parametrize(("statement", "advice"), HABITS, ids=[statement for statement, _ in HABITS])
def test_a_habit_from_elsewhere_is_answered_with_what_is_written_here(
    clinic: Clinic, statement: str, advice: str
) -> None:
    with pytest.raises((QueryFailed, QueryRejected)) as caught:
        clinic.run(statement)
    assert advice in caught.value.next_step, caught.value.next_step


def test_advice_about_a_value_tells_a_literal_from_a_cell(clinic: Clinic) -> None:
    with pytest.raises(QueryFailed) as caught:
        clinic.run("select full_name::date from patients")
    assert "safe_date(column)" in caught.value.next_step
