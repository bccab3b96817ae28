"""What checks find, how long a finding stands, and what is said of it: tables, numbers of values, columns."""

from dataclasses import replace
from typing import Any

from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.checks import CheckOutcome
from explorer.tables.engine import Updated, check_tables, checks_of, described
from explorer.tables.values import Option, Parent, TableSpec
from tests.explorer.tables.engine.shop import ITEMS, NAMES, PARTS, Shop, column, of_kind

UNFIT = "Values that are no such number, date, time or place as their column holds: 1."


def outcome(updated: Updated, *names: str) -> CheckOutcome:
    return check_tables(updated, names or NAMES)


def failing(updated: Updated, check: str, *names: str) -> list[Any]:
    """What the outcome says of the tables that fail in this way."""
    return [row for row in fact(outcome(updated, *names), "failing") if row["test"] == check]


def fact(outcome: CheckOutcome, name: str) -> Any:
    return outcome.facts.to_metadata()[name]


def test_without_findings_all_pass_and_say_how_many_tables_they_are_about(shop: Shop) -> None:
    shop.put("raw_owners", "o0", {})
    found = outcome(shop.update())
    assert (found.passed, found.is_error, fact(found, "failing")) == (True, False, [])
    assert fact(found, "tables_tested") == {"primary_keys": 6, "relationships": 4, "values_fit": 3}


def test_a_check_is_described_by_what_its_tables_have() -> None:
    lines = described({"values_fit", "primary_keys"}).splitlines()
    assert [line.split("`")[1] for line in lines] == ["primary_keys", "values_fit"]


def test_a_value_that_does_not_fit_is_found_until_it_is_gone(shop: Shop) -> None:
    shop.put_item("i0", size="x")
    updated = shop.update()
    assert updated.findings("item_book") == (Finding("values_fit", "warn", 1, UNFIT, {"size": 1}),)
    assert updated.unfit_values("items") == {"size": 1}
    [row] = failing(updated, "values_fit", "item_book")
    assert (row["table"], row["status"], row["failing_rows"], row["columns"]) == ("item_book", "warn", 1, {"size": 1})
    found = outcome(updated, "item_book")
    assert (found.passed, found.is_error, found.description) == (False, False, "item_book fails (values_fit).")
    assert "| `item_book` | values_fit | warn | 1 | `size`: 1 |" in fact(found, "overview")
    shop.put_item("i2", size="3")
    assert shop.update().unfit_values("item_book") == {"size": 1}
    shop.put_item("i0", size="1")
    assert shop.update().unfit_values("item_book") == {}


def test_a_reference_is_found_again_when_its_row_comes_and_lost_when_it_goes(shop: Shop) -> None:
    def lost() -> int | None:
        rows = [finding.rows for finding in shop.update().findings("items") if finding.check == "relationships"]
        return rows[0] if rows else None

    assert lost() == 2
    shop.put("raw_owners", "o0", {})
    assert lost() is None
    shop.take("raw_owners", "o1")
    assert lost() == 2
    shop.put_item("i5", owner="o2")
    shop.put_item("i1", owner="o2")
    shop.put_item("i4", owner="o2")
    assert lost() is None


def test_a_table_that_is_referred_to_comes_later(shop: Shop) -> None:
    shop.execute("drop table marts.items")
    without = shop.with_table(replace(PARTS, rows=replace(PARTS.rows, relation="raw_items"), reads=()))
    found = without.update(wanted={"parts"}).findings("parts")
    assert [finding.message for finding in found] == ["There is no table items."]
    assert without.update().findings("parts") == ()


def test_beside_references_that_were_lost_before_a_change_is_checked(shop: Shop) -> None:
    """Of the references all are counted again, of the keys those of the changed rows alone."""
    odd = shop.with_table(replace(PARTS, key=("item_id", "part"), parents=(Parent(("part",), "items", "item_id"),)))

    def found() -> list[tuple[str, int | None]]:
        return [(finding.check, finding.rows) for finding in odd.update().findings("parts")]

    assert found() == [("relationships", 12)]
    shop.put_item("i1", "tool", parts=["c", "c"])
    assert found() == [("primary_keys", 1), ("relationships", 12)]
    shop.put_item("i2", parts=["a"])
    assert found() == [("primary_keys", 1), ("relationships", 11)]
    shop.put_item("i1", "tool", parts=["c"])
    assert found() == [("relationships", 10)]


def test_a_reference_to_a_row_that_a_whole_build_lost_is_found(shop: Shop) -> None:
    """The table that refers to it did not change."""
    shop.put_item("i1", "tool", part_of="i0")
    shop.update()
    without = replace(ITEMS, rows=replace(ITEMS.rows, where="_deleted_at is null and item_id <> 'i0'"))
    assert [f.check for f in shop.with_table(without).update(wanted={"items"}).findings("item_tool")] == [
        "relationships"
    ]


def test_keys_that_are_null_or_twice_are_errors(shop: Shop) -> None:
    bad = replace(PARTS, key=("part",))
    updated = shop.with_table(bad).update()
    assert (outcome(updated).passed, outcome(updated).is_error) == (False, True)
    [row] = failing(updated, "primary_keys")
    assert (row["table"], row["failing_rows"]) == ("parts", 2)
    assert row["message"] == "Keys that are NULL or in more than one row: 2."
    shop.put_item("i0", parts=["a", "b", "c", None])
    updated = shop.with_table(bad).update()
    assert updated.results["parts"].verb == "applied"
    assert [(finding.check, finding.rows) for finding in updated.findings("parts")] == [("primary_keys", 3)]


def test_what_is_none_of_the_choices_is_told_apart(shop: Shop) -> None:
    choice = column("colour", text="record ->> 'colour'", options=(Option("red", "Red"),), unfit="\"colour\" <> 'red'")
    table = replace(of_kind("book"), columns=(choice, *of_kind("book").columns))
    shop.put_item("i0", colour="blue", size="x")
    updated = shop.with_table(table).update()
    assert {finding.check: finding.columns for finding in updated.findings("item_book")} == {
        "accepted_values": {"colour": 1}, "values_fit": {"size": 1},
    }  # fmt: skip
    assert updated.unfit_values("item_book") == {"colour": 1, "size": 1}
    assert checks_of(table) == {"primary_keys", "relationships", "accepted_values", "values_fit"}


def test_a_check_that_could_not_run_fails_what_it_would_have_checked(shop: Shop) -> None:
    bad = replace(PARTS, parents=(Parent(("part",), "items", "no | *column*"),))
    updated = shop.with_table(replace(bad, parents=(Parent(("part",), "items", "no_column"),))).update()
    assert {finding.check for finding in updated.findings("parts")} == {"primary_keys", "relationships"}
    [row] = failing(updated, "relationships", "parts")
    assert (row["status"], row["failing_rows"]) == ("error", None)
    assert "parent.no_column does not exist" in row["message"]
    updated = shop.with_table(replace(bad, parents=(Parent(("part",), "elsewhere", "x"),))).update()
    assert [finding.message for finding in updated.findings("parts")] == ["There is no table elsewhere."]


def test_options_that_are_not_those_of_the_data_are_one_finding(shop: Shop) -> None:
    told = {"options_unfit": 3780, "of": 3820}
    table: TableSpec = replace(PARTS, columns=(*PARTS.columns[:-1], column("part", values=told)))
    updated = shop.with_table(table).update()
    assert {row["test"] for row in fact(outcome(updated), "failing")} == {"accepted_values", "relationships"}
    [row] = failing(updated, "accepted_values")
    assert (row["table"], row["failing_rows"]) == ("parts", 1)
    assert row["message"] == "The options of part do not fit the data: 3780 of 3820 answers seen are none of them."


def test_what_a_killed_update_left_unchecked_is_checked_by_the_next(shop: Shop) -> None:
    shop.put_item("i0", size="x")
    shop.update()
    shop.execute("update staging.explorer_tables set findings = '[]', checked = '{}' where name = 'items'")
    assert shop.update().unfit_values("items") == {"size": 1}
