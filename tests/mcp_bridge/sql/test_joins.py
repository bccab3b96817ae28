"""Which tables of a statement no condition connects, read from its text."""

import json
from pathlib import Path

import pytest

from mcp_bridge.sql import unjoined
from tests.mcp_bridge.sql.clinic import RELATIONS, Clinic

LEGIT = [json.loads(line)["sql"] for line in (Path(__file__).parent / "legit.jsonl").read_text().splitlines()]


def gaps(statement: str) -> list[str]:
    found = unjoined(statement, {"marts": RELATIONS})
    return [f"{' + '.join(map(str, each.left))} | {' + '.join(map(str, each.right))}" for each in found]


CONNECTED = [
    "select 1 from patients p, visits v where p.patient_id = v.patient_id",
    "select 1 from patients p join visits v using (patient_id)",
    "select 1 from patients natural join visits",
    "select 1 from patients p join visits v on v.patient_id = p.patient_id and urgency = 'low'",
    "select 1 from patients p join visits v on true where district = (answers ->> 'place')",
    "select 1 from patients p, visits v where p.patient_id = v.patient_id or v.weight_kg > 3",
    "select 1 from patients p join visits v using (patient_id) join patients m on m.patient_id = p.mother_id",
    "select 1 from (patients p join visits v using (patient_id)) as j, patients m where m.patient_id = j.mother_id",
    # What has one row, or is made to be joined with everything.
    "select 1 from patients p cross join (select max(seen_at) as last from visits) l",
    "with l as (select max(seen_at) as last from visits) select 1 from patients, l",
    "select 1 from patients p, (select * from visits limit 1) v",
    "select 1 from patients p, generate_series(1, 3) g",
    "select 1 from patients p, (values (1), (2)) v",
    "select 1 from patients p, unnest(p.tags) t",
    "select 1 from patients p, lateral (select * from visits v where v.patient_id = p.patient_id limit 3) x",
    # A calendar and the people, connected by what is joined to both.
    "with days as (select d from generate_series(1, 9) d) select 1 from days cross join patients p "
    "left join visits v on v.patient_id = p.patient_id and v.visit_id = days.d",
    # By way of the query around it.
    "select (select count(*) from visits v, patients m where v.patient_id = p.patient_id and m.mother_id = p.patient_id) "
    "from patients p",
]
GAPS = {
    "select 1 from patients, visits": ["patients | visits"],
    "select 1 from patients p, visits v where p.district = 'north' and v.weight_kg > 3": ["patients p | visits v"],
    "select 1 from patients p join visits v on p.patient_id = p.mother_id": ["patients p | visits v"],
    "select 1 from patients p left join visits v on true": ["patients p | visits v"],
    "select 1 from patients p cross join visits": ["patients p | visits"],
    "select 1 from patients p join visits v using (patient_id), patients m": ["patients p + visits v | patients m"],
    "select 1 from patients a, patients b, patients c where a.patient_id = c.mother_id": [
        "patients a + patients c | patients b"
    ],
    "with v as (select patient_id from visits) select 1 from patients p, v": ["patients p | v"],
    "select 1 from patients p, (select patient_id from visits) x where district = 'a'": ["patients p | x"],
    "select 1 where exists (select 1 from patients p, visits v where weight_kg > 3)": ["patients p | visits v"],
    "select district from patients union select 'x' from patients p, visits v": ["patients p | visits v"],
}


@pytest.mark.parametrize("statement", CONNECTED)
def test_conditions_connect(clinic: Clinic, statement: str) -> None:
    clinic.validate(statement)
    assert gaps(statement) == []


@pytest.mark.parametrize("statement", GAPS)
def test_what_nothing_connects_is_named(clinic: Clinic, statement: str) -> None:
    clinic.validate(statement)
    assert gaps(statement) == GAPS[statement]


def test_ordinary_statements_have_no_gaps(clinic: Clinic) -> None:
    filled = [clinic.fill(each) for each in LEGIT]
    assert {each: gaps(each) for each in filled if gaps(each)} == {}
