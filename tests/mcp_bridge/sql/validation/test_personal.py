"""Which columns does a statement read and tell? The validator's answer against PostgreSQL's own: rights to single columns."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from explorer.contract.schemas import TenantSchemas
from explorer.postgres import reader_rights
from mcp_bridge.sql import QueryRejected, ValidatedQuery, masked, validate
from mcp_bridge.sql.validation import fallback
from mcp_bridge.sql.validation.rules import Rules
from tests.mcp_bridge.sql.clinic import OWN_TYPES, RELATIONS, Clinic

PERSONAL = {"patients": frozenset({"full_name", "born"}), "visits": frozenset({"answers"})}
_LEGIT = Path(__file__).parents[1] / "legit.jsonl"
LEGIT = [json.loads(line)["sql"] for line in _LEGIT.read_text().splitlines()]
READING = [
    "select full_name from patients",
    "select p.full_name from patients p",
    "select * from patients",
    "select p from patients p",
    "select p::text from patients p",
    "select row_to_json(p) from patients p",
    "select (p).full_name from patients p",
    "select count(p.full_name) from patients p",
    "select district from patients where full_name like 'A%'",
    "select district from patients order by full_name",
    "select district, count(*) from patients group by district, born",
    "select district from patients group by district having max(born) > '2000-01-01'",
    "select count(*) filter (where born is null) from patients",
    "select rank() over (order by born) from patients",
    "select a.district from patients a join patients b using (full_name)",
    "select a.patient_id from patients a natural join (select full_name from patients) b",
    "select (select full_name from patients limit 1)",
    "select 1 where exists (select 1 from patients where born is null)",
    "with p as (select * from patients) select district from p",
    "with p(a, b) as (select patient_id, full_name from patients) select a from p",
    "select district from (select district, full_name from patients) x",
    "select x.value from patients p, lateral (select p.full_name as value) x",
    "select key from visits, jsonb_each(answers)",
    "select district from patients union select full_name from patients",
    "table patients",
    "select array_agg(p) from patients p",
    "select coalesce(null, full_name) from patients",
    "select distinct on (full_name) patient_id from patients",
    "select v.visit_id from visits v where v.patient_id in (select patient_id from patients where full_name = 'A')",
]
NOT_READING = [
    "select district from patients",
    "select count(*) from patients",
    "select patient_id, district from patients p order by 1",
    "select full_name from (values (1)) as v(full_name)",
    "select p.full_name from (select district as full_name from patients) p",
    "with patients as (select 1 as full_name) select full_name from patients",
    "select visit_id, patient_id from visits where weight_kg > 3",
    "select 'full_name' from patients",
    "select a.patient_id from patients a join visits b using (patient_id)",
    "select exists (select from patients)",
]


@pytest.fixture(scope="module")
def withheld(clinic: Clinic) -> Iterator[Clinic]:
    """The clinic, whose reader may not read the columns with personal data."""
    schemas = TenantSchemas(clinic.own)
    places = [schemas.marts, schemas.raw]
    with clinic.owner.connect(autocommit=True) as connection:
        assert reader_rights.withhold(connection, schemas, places, PERSONAL)
        assert not reader_rights.withhold(connection, schemas, places, PERSONAL)
        try:
            yield clinic
        finally:
            assert reader_rights.open_all(connection, schemas, places)
            assert not reader_rights.open_all(connection, schemas, places)


def judged(clinic: Clinic, statement: str) -> ValidatedQuery:
    relations = {clinic.schema: RELATIONS}
    return validate(
        statement, schemas=frozenset({clinic.schema}), relations=relations, own_types=OWN_TYPES, personal=PERSONAL
    )


def is_denied(clinic: Clinic, statement: str) -> bool:
    try:
        clinic.raw(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False
    return False


def test_the_validator_and_the_database_agree_on_who_reads(withheld: Clinic) -> None:
    assert {s for s in READING if not judged(withheld, s).personal_read} == set()
    assert {s for s in READING if not is_denied(withheld, s)} == set()
    assert {s for s in NOT_READING if judged(withheld, s).personal_read or is_denied(withheld, s)} == set()


def test_whatever_the_database_denies_the_validator_has_found(withheld: Clinic) -> None:
    """Over the honest statements of the corpus; the validator may find more, in parts that PostgreSQL leaves out."""
    denied, found = set[str](), set[str]()
    for statement in map(withheld.fill, LEGIT):
        if is_denied(withheld, statement):
            denied.add(statement)
        if judged(withheld, statement).personal_read:
            found.add(statement)
    assert len(denied) > 10
    assert denied - found == set()
    assert found - denied == set()


def test_without_libpg_query_more_is_found_but_nothing_missed() -> None:
    missed = []
    for statement in READING:
        rules = Rules(statement, frozenset({"own_marts"}), {"own_marts": RELATIONS}, OWN_TYPES, PERSONAL)
        try:
            fallback.check_statement(statement, rules)
        except QueryRejected:
            continue
        if not rules.personal_read:
            missed.append(statement)
    assert missed == []


@pytest.mark.parametrize(
    ("statement", "tells"),
    [
        ("select full_name as n, district from patients", [{"patients.full_name"}, set()]),
        ("select count(full_name), count(*) from patients", [set(), set()]),
        ("select full_name is null from patients", [set()]),
        ("select upper(p.full_name) || district from patients p", [{"patients.full_name"}]),
        ("select full_name = 'A' from patients", [{"patients.full_name"}]),
        ("select max(born) from patients", [{"patients.born"}]),
        (
            "with a as (select full_name as x, district from patients) select x, district from a",
            [{"patients.full_name"}, set()],
        ),
        ("select (select full_name from patients limit 1), 1", [{"patients.full_name"}, set()]),
        ("select full_name from patients union select district from patients", [{"patients.full_name"}]),
        ("select case when born > now() then 1 else 0 end from patients", [{"patients.born"}]),
        ("select array_agg(full_name order by born) from patients", [{"patients.full_name", "patients.born"}]),
        ("select p from patients p", [{"patients.full_name", "patients.born"}]),
        ("select string_agg(district, ',' order by full_name) from patients", [{"patients.full_name"}]),
        ("select value from visits, jsonb_each_text(answers)", [{"visits.answers"}]),
        (
            "with recursive r(a, b) as (select '', full_name from patients union all select b, '' from r where a < 'z')"
            " select a from r",
            [{"patients.full_name"}],
        ),
    ],
)
def test_a_column_tells_what_it_is_made_of(clinic: Clinic, statement: str, tells: list[set[str]]) -> None:
    assert judged(clinic, statement).tells == tuple(map(frozenset, tells))


@pytest.mark.parametrize(
    ("statement", "first_row"),
    [
        ("select * from patients order by patient_id limit 1", None),
        ("select p.*, v.visit_id from patients p join visits v on v.patient_id = p.patient_id limit 1", None),
        ("select full_name, district from patients where district is not null limit 1", None),
        ('select P.Full_Name as "who", p."born" from patients p limit 1', ("***", "***")),
        ("select 'é', full_name n from patients limit 1", ("é", "***")),
        ("select full_name from patients /* by patient_id */ order by patient_id limit 1", ("***",)),
    ],
)
def test_a_mask_stands_in_the_select_list_and_the_reader_needs_no_right(
    withheld: Clinic, statement: str, first_row: tuple[str, ...] | None
) -> None:
    made = masked(judged(withheld, statement).text, {withheld.schema: RELATIONS}, PERSONAL)
    assert made is not None
    after = judged(withheld, made.text)
    assert after.personal_read == frozenset()
    rows = withheld.raw(made.text)
    assert "***" in rows[0]
    assert first_row is None or rows[0] == first_row
    with withheld.owner.connect(autocommit=True) as connection:
        connection.execute(f"SET search_path = {withheld.schema}")
        plain = connection.execute(statement.encode())
        names = [column.name for column in plain.description or ()]
        hidden = [names.index(name) for name in names if rows[0][names.index(name)] == "***"]
        assert hidden
        again = connection.execute(made.text.encode())
        assert [column.name for column in again.description or ()] == names


@pytest.mark.parametrize(
    "statement",
    [
        "select full_name from patients where full_name = 'A'",
        "select full_name from patients order by 1",
        "select full_name as n from patients order by n",
        "select * from patients order by 2",
        "select full_name, count(*) from patients group by 1",
        "select full_name, count(*) from patients group by rollup (full_name)",
        "select distinct full_name from patients",
        "select upper(full_name) from patients",
        "select full_name::text from patients",
        "select p from patients p",
        "with p as (select * from patients) select full_name from p",
        "select full_name from patients union all select full_name from patients",
        "select x.* from (select full_name from patients) x",
        "select a.* from patients a natural join patients b",
        "select * from patients a join patients b using (full_name)",
        "table patients",
        "select full_name from patients, lateral (select full_name) x",
        'select U&"\\0066ull_name" from patients',
    ],
)
def test_what_cannot_be_masked_is_still_found_as_read(clinic: Clinic, statement: str) -> None:
    made = masked(judged(clinic, statement).text, {clinic.schema: RELATIONS}, PERSONAL)
    assert made is None or judged(clinic, made.text).personal_read


def test_a_swapped_table_keeps_the_rights_of_the_one_before(withheld: Clinic) -> None:
    with withheld.owner.connect(autocommit=True) as connection:
        connection.execute(f"SET search_path = {withheld.schema}")
        connection.execute("CREATE TABLE swapped (a int, b int, c int)")
        schemas = TenantSchemas(withheld.own)
        reader_rights.withhold(connection, schemas, [schemas.marts, schemas.raw], {**PERSONAL, "swapped": {"b"}})
        connection.execute("CREATE TABLE _swapped (c int, d int, b int)")
        connection.execute(f"GRANT SELECT ON _swapped TO {withheld.reader.user}")
        reader_rights.keep_rights(connection, f"{withheld.schema}.swapped", f"{withheld.schema}._swapped")
        denied = [name for name in "cdb" if is_denied(withheld, f"SELECT {name} FROM _swapped")]
        connection.execute("DROP TABLE swapped, _swapped")
    assert denied == ["d", "b"]
