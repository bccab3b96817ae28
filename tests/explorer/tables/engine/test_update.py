"""What an update builds, what it leaves, and what it says when it cannot."""

from dataclasses import replace

import psycopg
import pytest

from explorer.tables.engine import TableResult, summary
from explorer.tables.plan import TablePlan
from explorer.tables.values import Rows
from tests.explorer.tables.engine.shop import ITEMS, NAMES, OWNERS, PARTS, Shop, column, of_kind

BROKEN = replace(ITEMS, rows=Rows("raw_items", "item_id", "1 / 0 = 1", ITEMS.rows.queries))


def test_a_table_has_its_indexes_and_comments(shop: Shop) -> None:
    with shop.connect() as connection:
        indexes = connection.execute("select indexdef from pg_indexes where tablename = 'items'").fetchall()
        comments = connection.execute(
            "select attname, col_description(attrelid, attnum) from pg_attribute where attrelid = %s::regclass and attnum > 0",
            [f"{shop.schemas.marts}.items"],
        ).fetchall()
    assert sorted(text.partition(" USING ")[2] for (text,) in indexes) == [
        "btree (item_id)", "btree (item_id) WHERE (unfit_columns IS NOT NULL)", "btree (owner_id)",
    ]  # fmt: skip
    assert dict(comments)["kind"] == 'The kind: it\'s "so".'


def test_a_changed_definition_builds_the_table_and_those_that_read_it(shop: Shop) -> None:
    for changed in (
        replace(PARTS, description="Other words."),
        replace(PARTS, indexes=("part",)),
        replace(PARTS, columns=(*PARTS.columns, column("twice", value="part || part"))),
    ):
        shop.with_table(PARTS).update()
        verbs = {name: result.verb for name, result in shop.with_table(changed).update().results.items()}
        assert {name for name, verb in verbs.items() if verb != "unchanged"} == {"parts"}
        assert verbs["parts"] == "built"
    reading = {"item_book", "item_tool", "parts", "counts"}
    results = shop.with_table(replace(ITEMS, columns=ITEMS.columns[:-1])).update().results
    assert {name for name, result in results.items() if result.verb == "built"} == {"items", *reading}


def test_a_table_dropped_by_hand_comes_back(shop: Shop) -> None:
    shop.execute("drop table marts.item_book")
    results = shop.update().results
    assert {name for name, result in results.items() if result.verb != "unchanged"} == {"item_book"}
    assert shop.read("select count(*) from item_book") == [(3,)]


def test_what_changes_are_found_by_may_be_gone(shop: Shop) -> None:
    """The items' former kinds are in a table that was dropped: what lacks the changes is built as a whole."""
    shop.execute("drop table marts.items")
    shop.put_item("i0", "tool")
    results = shop.update().results
    assert {results[name].verb for name in ("items", "item_book", "item_tool")} == {"built"}
    assert shop.read("select count(*) from item_book where item_id = 'i0'") == [(0,)]


def test_tables_are_built_on_request(shop: Shop) -> None:
    updated = shop.update(wanted={"parts", "counts"}, by_need=False)
    assert {name: result.verb for name, result in updated.results.items()} == {"parts": "built", "counts": "built"}
    assert {name for name, build in updated.builds.items() if build.run_id == "run 2"} == {"parts", "counts"}


def test_a_table_is_not_newer_than_what_it_reads(shop: Shop) -> None:
    """It was built alone, while the table that it reads lacked a change: afterwards it still lacks it."""
    shop.put_item("i0", "book", "o0", size="77")
    assert shop.update(wanted={"item_book"}, by_need=False).results["item_book"].verb == "built"
    assert shop.read("select size from item_book where item_id = 'i0'") == [(0,)]
    shop.update()
    assert shop.read("select size from item_book where item_id = 'i0'") == [(77,)]


def test_a_move_that_another_run_took_up_in_part_is_not_lost(shop: Shop) -> None:
    shop.put_item("i0", "tool")
    shop.update(wanted={"items"})
    shop.update()
    assert shop.read("select count(*) from item_book where item_id = 'i0'") == [(0,)]
    assert shop.read("select count(*) from item_tool where item_id = 'i0'") == [(1,)]


def test_without_its_raw_table_a_table_is_not_built_and_says_why(shop: Shop) -> None:
    shop.execute("drop table raw.raw_owners")
    results = shop.update(by_need=False).results
    assert {name for name, result in results.items() if result.verb == "skipped"} == {"owners", "items", "counts"}
    assert results["owners"].message == (
        "not built: there is no table raw_owners yet; it comes with the first load of its source"
    )
    assert summary(results.values()) is None
    assert shop.read("select count(*) from owners") == [(2,)]


def test_a_failed_table_stays_as_it_was_and_those_that_read_it_say_why(shop: Shop) -> None:
    before = shop.rows()
    updated = shop.with_table(BROKEN).update()
    assert shop.rows() == before
    failed, *skipped = updated.failures()
    assert (failed.table, failed.message) == ("items", "division by zero")
    assert {result.table: result.message for result in skipped} == dict.fromkeys(
        ("item_book", "item_tool", "parts", "counts"), "not built, because items failed: division by zero"
    )
    assert summary(updated.results.values()) == (
        "1 table failed: items: division by zero. 4 more were not built because of that: counts, item_book, item_tool, parts."
    )
    assert updated.builds["items"].run_id == "run 1"
    [listed] = updated.listed(frozenset({"item"}))
    assert (listed.status, listed.error, listed.row_count) == ("error", "division by zero", 6)
    assert {name for name, result in shop.update().results.items() if result.verb == "built"} == {
        "items", "item_book", "item_tool", "parts", "counts",
    }  # fmt: skip


def test_a_record_that_moved_while_a_table_failed_leaves_it_later(shop: Shop) -> None:
    shop.put_item("i0", "tool")
    broken = of_kind("book")
    broken = replace(broken, rows=replace(broken.rows, where="kind = 'book' and 1 / 0 = 1"))
    assert shop.with_table(broken).update().results["item_book"].verb == "failed"
    assert shop.update().results["item_book"].verb == "built"
    assert shop.read("select count(*) from item_book where item_id = 'i0'") == [(0,)]


def test_causes_are_said_once() -> None:
    full, other = "No space left on device", "division by zero."
    results = [
        TableResult("a", "failed", None, full, roots=("a",)),
        TableResult("b", "failed", None, full, roots=("b",)),
        TableResult("c", "failed", None, other, roots=("c",)),
        TableResult("d", "skipped", None, "not built, because a failed", roots=("a",)),
        TableResult("e", "skipped", None, "not built: there is no table raw_e yet"),
        TableResult("f", "built", 1),
    ]
    assert summary(results) == (
        "3 tables failed: a, b: No space left on device; c: division by zero. 1 more was not built because of that: d."
    )
    many = [TableResult(f"t{number}", "failed", None, f"cause {number}") for number in range(40)]
    assert str(summary(many)).endswith("; and 35 other causes.")


def test_two_tables_that_read_each_other_are_refused(shop: Shop) -> None:
    shop.tables = [replace(OWNERS, reads=("items",)), ITEMS]
    with pytest.raises(ValueError, match="cycle"):
        shop.update()


def test_the_plan_reports_type_changes_and_columns(shop: Shop) -> None:
    updated = shop.update()
    assert updated.column_types["parts"] == [("item_id", "text"), ("position", "bigint"), ("part", "text")]
    assert updated.type_changes == TablePlan().type_changes
    assert set(updated.tables) == set(NAMES)


def test_agents_cannot_read_the_records(shop: Shop) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shop.read(f"select * from {shop.schemas.staging}.explorer_tables")
