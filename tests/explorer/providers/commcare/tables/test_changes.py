"""Tables that take up what changed in the source equal tables built as a whole, whatever changed."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from explorer.providers.commcare.structure import Structure
from tests.conftest import tenants
from tests.explorer.workshop import RAW_TABLES, Workshop

NOTHING = Structure((), (), ())
NAMES = st.sampled_from(["Asha", "Binod", "Chandra"])
# Few, and the same for all kinds of owners: a case may find another owner of its identifier.
OWNERS = st.sampled_from(["o1", "o2", "o3"])
CASES, TYPES, FORMS = st.sampled_from("abcd"), st.sampled_from(["child", "mother"]), st.sampled_from("pqr")
EDIT = st.one_of(
    st.tuples(st.just("raw_cases"), CASES, TYPES, OWNERS),
    st.tuples(st.just("raw_forms"), FORMS, st.sampled_from(["http://x/one", "http://x/two"]), OWNERS, CASES),
    st.tuples(st.just("raw_users"), OWNERS, NAMES, st.booleans(), OWNERS),
    st.tuples(st.sampled_from(["raw_web_users", "raw_groups"]), OWNERS, NAMES),
    st.tuples(st.just("raw_locations"), OWNERS, NAMES, st.sampled_from(["o1", "o2", None])),
    st.tuples(st.just("take"), st.sampled_from(["raw_cases", "raw_forms", "raw_users", "raw_locations"]), OWNERS | CASES | FORMS),
)  # fmt: skip
KEY = {
    "raw_cases": "case_id",
    "raw_forms": "form_id",
    "raw_users": "user_id",
    "raw_web_users": "web_user_id",
    "raw_groups": "group_id",
    "raw_locations": "location_id",
}


def put(workshop: Workshop, table: str, key: str, *values: Any) -> None:
    """Land a record in the place of the one before."""
    place = f"{workshop.tenant.names.schema('raw')}.{table}"
    with workshop.tenant.rw.connect() as connection:
        connection.execute(f"delete from {place} where {KEY[table]} = %s".encode(), [key])
    if table == "raw_cases":
        case_type, owner = values
        record = {"date_opened": "2024-01-01" if owner == "o1" else "---", "properties": {"own": owner}}
        workshop.add(table, record, case_id=key, case_type=case_type, owner_id=owner, closed=False)
    elif table == "raw_forms":
        xmlns, user, case = values
        form = {"@xmlns": xmlns, "q": case, "r": [{"case": {"@case_id": case}}, {"n": user}]}
        workshop.add(table, {"form": form, "metadata": {"userID": user}}, form_id=key)
    elif table == "raw_users":
        name, is_active, location = values
        record = {"primary_location": location}
        workshop.add(table, record, user_id=key, username=name, is_active=is_active)
    elif table == "raw_locations":
        name, above = values
        workshop.add(table, {"name": name}, location_id=key, parent_location_id=above)
    else:
        name = "name" if table == "raw_groups" else "username"
        workshop.add(table, {}, **{KEY[table]: key, name: values[0]})


def take(workshop: Workshop, table: str, key: str) -> None:
    """Mark a record as gone, as the loader does."""
    place = f"{workshop.tenant.names.schema('raw')}.{table}"
    with workshop.tenant.rw.connect() as connection:
        connection.execute(
            f"update {place} set _deleted_at = clock_timestamp() where {KEY[table]} = %s".encode(), [key]
        )


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(EDIT, min_size=1, max_size=5), min_size=1, max_size=3))
def test_changes_give_what_a_whole_build_gives(connections: Connections, runs: list[list[Any]]) -> None:
    with tenants(connections) as make:
        workshop = Workshop(make(), connections)
        workshop.make_raw(*RAW_TABLES)
        put(workshop, "raw_users", "o1", "Asha", True, "o2")
        put(workshop, "raw_locations", "o2", "Rampur", None)
        for number, (case_id, case_type) in enumerate(zip("abcd", ["child", "mother"] * 2, strict=True)):
            put(workshop, "raw_cases", case_id, case_type, f"o{number % 3 + 1}")
        put(workshop, "raw_forms", "p", "http://x/one", "o1", "a")
        workshop.build(NOTHING)
        for edits in runs:
            for what, *values in edits:
                (take if what == "take" else put)(workshop, *([what] if what != "take" else []), *values)
            verbs = {name: result.verb for name, result in workshop.build(NOTHING).results.items()}
            assert verbs["cases"] in ("applied", "unchanged")
            applied = everything(workshop, verbs)
            assert everything(workshop, workshop.build(NOTHING, by_need=False).results) == applied


def everything(workshop: Workshop, tables: Any) -> dict[str, list[Any]]:
    """All rows of the tables, as JSON."""
    return {table: workshop.read(f"select to_jsonb(t) from {table} t order by 1") for table in tables}
