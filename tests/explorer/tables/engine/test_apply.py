"""Tables with applied changes equal tables built as a whole: rows, numbers of rows, findings."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from tests.conftest import tenants
from tests.explorer.tables.engine.shop import KINDS, NAMES, Shop

ITEMS = st.sampled_from([f"i{number}" for number in range(8)])
OWNERS = st.sampled_from([f"o{number}" for number in range(3)])
RECORD = st.fixed_dictionaries(
    {
        "size": st.sampled_from(["7", "x", None]),
        "part_of": st.sampled_from(["i0", "i1", "gone", None]),
        "parts": st.lists(st.sampled_from("abc"), max_size=3),
    }
)
EDIT = st.one_of(
    st.tuples(st.just("put item"), ITEMS, st.sampled_from(KINDS), OWNERS, RECORD),
    st.tuples(st.just("put owner"), OWNERS, st.sampled_from(["Asha", "Binod", None])),
    st.tuples(st.just("take item"), ITEMS),
    st.tuples(st.just("take owner"), OWNERS),
)


def edit(shop: Shop, what: str, key: str, *values: Any) -> None:
    if what == "put item":
        kind, owner, record = values
        shop.put_item(key, kind, owner, **record)
    elif what == "put owner":
        shop.put("raw_owners", key, {"name": values[0]})
    else:
        shop.take("raw_items" if what == "take item" else "raw_owners", key)


def everything(shop: Shop) -> dict[str, Any]:
    """Rows, their number, and what checks found. The number in the record is that of the rows."""
    rows, builds = shop.rows(), shop.builds()
    assert {name: builds[name].rows for name in NAMES} == {name: len(rows[name]) for name in NAMES}
    return {name: (rows[name], builds[name].findings) for name in NAMES}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(EDIT, min_size=1, max_size=6), min_size=1, max_size=4))
def test_changes_give_what_a_whole_build_gives(connections: Connections, runs: list[list[Any]]) -> None:
    """Over several runs records came, changed, moved to another group or owner, went and came back."""
    with tenants(connections) as make:
        shop = Shop(make())
        shop.make_raw()
        for number in range(5):
            shop.put_item(f"i{number}", KINDS[number % 2], f"o{number % 3}", size="1", parts=["a"])
        shop.update()
        for edits in runs:
            for each in edits:
                edit(shop, *each)
            verbs = {name: result.verb for name, result in shop.update().results.items()}
            assert {name for name, verb in verbs.items() if verb not in ("applied", "unchanged")} <= {"counts"}
        changed = everything(shop)
        shop.update(by_need=False)
        assert everything(shop) == changed


def test_only_what_shows_a_change_takes_it_up(shop: Shop) -> None:
    shop.put_item("i0", "book", "o0", size="77")
    updated = shop.update()
    verbs = {name: result.verb for name, result in updated.results.items()}
    assert verbs == {
        "owners": "unchanged", "items": "applied", "item_book": "applied", "item_tool": "unchanged", "parts": "applied",
        "counts": "built",
    }  # fmt: skip
    runs = {name: build.run_id for name, build in updated.builds.items()}
    assert runs == {name: "run 1" if verbs[name] == "unchanged" else "run 2" for name in NAMES}
    assert set(verb.verb for verb in shop.update().results.values()) == {"unchanged"}
    assert shop.said == ["Of 6 tables 0 take up what changed, 0 are built."]
    assert shop.builds() == updated.builds


def test_a_changed_owner_is_taken_up_by_its_items(shop: Shop) -> None:
    shop.put("raw_owners", "o1", {"name": "Chandra"})
    results = shop.update().results
    assert results["items"].verb == "applied"
    assert {name for name in ("item_book", "item_tool", "parts") if results[name].verb != "unchanged"} == set()
    assert shop.read("select distinct owner_name from items where owner_id = 'o1'") == [("Chandra",)]


def test_an_item_that_moves_leaves_its_old_table(shop: Shop) -> None:
    shop.put_item("i0", "tool")
    results = shop.update().results
    assert results["item_book"].verb == results["item_tool"].verb == "applied"
    assert shop.read("select count(*) from item_book where item_id = 'i0'") == [(0,)]
    assert shop.read("select count(*) from item_tool where item_id = 'i0'") == [(1,)]


def test_much_that_changed_is_built_as_a_whole(shop: Shop) -> None:
    shop.execute(
        "insert into raw.raw_items select 'n' || n, 'book', 'o1', '{}' from generate_series(1, 300) as each (n)"
    )
    results = shop.update().results
    assert (results["items"].verb, results["item_book"].verb) == ("built", "built")
    assert results["item_tool"].verb == "unchanged"


def test_a_table_that_cannot_take_up_changes_is_built_in_the_same_run(shop: Shop) -> None:
    shop.execute("alter table marts.item_book drop column size")
    shop.put_item("i0", "book", size="5")
    result = shop.update().results["item_book"]
    assert result.verb == "built"
    assert str(result.message).startswith("built as a whole, because its changes could not be applied: ")
    assert shop.read("select size from item_book where item_id = 'i0'") == [(5,)]


def test_a_change_that_changes_no_row_is_no_new_version(shop: Shop) -> None:
    """Whoever builds on the table, such as dbt, has nothing to do."""
    before = shop.builds()["items"]
    shop.take("raw_owners", "o9")
    shop.put("raw_owners", "o9", {"name": "without items"})
    now = shop.update().builds["items"]
    assert now.built_from != before.built_from
    assert (now.version, now.run_id, now.changed_at) == (before.version, before.run_id, before.changed_at)
