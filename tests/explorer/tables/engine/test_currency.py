"""An update would find nothing to do only where nothing changed at all; a look changes nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from explorer.contract.materializations import TypeChange
from explorer.contract.retirement import RETENTION_DAYS
from explorer.tables.engine import is_current
from explorer.tables.plan import TablePlan
from explorer.tables.values import Option
from tests.explorer.tables.engine.shop import ITEMS, PARTS, TABLES, Shop, column


def test_nothing_is_to_be_done_after_an_update_until_a_record_comes(shop: Shop) -> None:
    assert shop.is_current()
    shop.put_item("i0", size="7")
    assert not shop.is_current()
    assert not shop.is_current()
    shop.update()
    assert shop.is_current()


@pytest.mark.parametrize(
    "lost",
    [
        "drop table marts.item_book",
        "delete from staging.explorer_tables where name = 'items'",
        "update staging.explorer_tables set checked = '{}' where name = 'items'",
        "update staging.explorer_tables set definition = '' where name = 'items'",
        "update staging.explorer_columns set columns = '{\"size\": {}}'",
        "update staging.explorer_lineage set columns = to_jsonb('before'::text) where relation like '/%%'",
        "drop table raw.raw_owners cascade",
    ],
)
def test_what_was_lost_or_left_undone_is_noticed(shop: Shop, lost: str) -> None:
    shop.execute(lost)
    assert not shop.is_current()


def test_another_definition_is_noticed_also_of_what_no_row_tells(shop: Shop) -> None:
    assert not shop.with_table(replace(ITEMS, description="Other words.")).is_current()
    labelled = column("part", path=("part",), options=(Option("p", "Part"),))
    assert not shop.with_table(replace(PARTS, columns=(*PARTS.columns[:-1], labelled))).is_current()


def test_a_table_is_retired_and_dropped_in_time(shop: Shop) -> None:
    shop.tables = [table for table in TABLES if table.name != "item_book"]
    assert not shop.is_current()
    shop.update()
    assert shop.is_current()
    since = datetime.now(UTC).date() - timedelta(days=RETENTION_DAYS + 1)
    shop.execute(f"comment on table marts.item_book is 'Retired since {since}: the source is gone.'")
    assert not shop.is_current()


def test_a_change_of_type_that_nobody_told_is_told_first(shop: Shop) -> None:
    change = TypeChange(table="items", column="size", before="bigint", after="text")
    planned = TablePlan(tuple(shop.tables), (change,))
    assert not is_current(shop.tenant.rw, shop.schemas, planned)
