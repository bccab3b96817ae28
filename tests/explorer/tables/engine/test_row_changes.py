"""Which rows a run changed, counted while old and new ones are at hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from explorer.contract.bookkeeping import run_changes
from explorer.contract.bookkeeping.run_changes import RowCounts
from tests.explorer.tables.engine.shop import ITEMS, KINDS, Shop, column


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def test_a_run_records_which_rows_are_new_changed_and_gone(shop: Shop) -> None:
    began = datetime.now(UTC)
    shop.put_item("i0", KINDS[0], "o0", size="99", parts=["a", "b"])
    shop.put_item("i9", KINDS[0], "o1", size="9", parts=["c"])
    shop.take("raw_items", "i1")
    verbs = {name: result.verb for name, result in shop.update().results.items()}
    with shop.connect() as connection:
        [items] = [
            each for each in run_changes.within(connection, shop.schemas, began, later()) if each.name == "items"
        ]
    assert verbs["items"] == "applied"
    assert (items.rows_before, items.rows_after, items.counts) == (6, 6, RowCounts(1, 1, 1))
    assert (items.columns_before, items.columns_after) == (None, None)

    # Built as a whole, with a column that was not there: only what both have is compared.
    began = datetime.now(UTC)
    shop.put_item("i0", KINDS[0], "o0", size="100", parts=["a", "b"])
    wider = replace(ITEMS, columns=(*ITEMS.columns, column("also", text="record ->> 'size'")))
    assert shop.with_table(wider).update().results["items"].verb == "built"
    with shop.connect() as connection:
        found = {each.name: each for each in run_changes.within(connection, shop.schemas, began, later())}
    assert found["items"].counts == RowCounts(0, 1, 0)
    before, after = found["items"].columns_before, found["items"].columns_after
    assert after
    assert after.items() - (before or {}).items() == {("also", "text")}
