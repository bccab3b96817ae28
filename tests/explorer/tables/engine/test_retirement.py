"""A table whose source is gone stays for a while, marked, and is then dropped."""

from datetime import UTC, date, datetime, timedelta

from explorer.contract.materializations import RetiredTable
from explorer.contract.retirement import RETENTION_DAYS
from explorer.tables.engine.retirement import retire
from tests.explorer.tables.engine.shop import TABLES, Shop

LATER = timedelta(days=RETENTION_DAYS + 1)


def comment(shop: Shop, table: str) -> str:
    with shop.connect() as connection:
        [[text]] = connection.execute(
            "select obj_description(%s::regclass)", [f"{shop.schemas.marts}.{table}"]
        ).fetchall()
    return str(text)


def retire_on(shop: Shop, day: date) -> list[RetiredTable]:
    current = {table.name for table in TABLES} - {"item_book"}
    with shop.connect() as connection:
        return retire(connection, shop.schemas, current, today=day)


def test_it_stays_then_goes_and_says_so(shop: Shop) -> None:
    today = datetime.now(UTC).date()
    shop.execute("create table marts.of_somebody_else (x int)")
    shop.tables = [table for table in TABLES if table.name != "item_book"]
    [retired] = shop.update().retired
    assert retired == RetiredTable(
        name="item_book", since=str(today), dropped_after=str(today + timedelta(days=RETENTION_DAYS))
    )
    assert comment(shop, "item_book") == (
        f"Retired since {today}: the source is gone, the rows are no longer refreshed and the table is dropped after"
        f" {retired.dropped_after}. It was: One row per book."
    )
    assert list(shop.update().retired) == [retired]
    assert retire_on(shop, today + LATER - timedelta(days=1)) == [retired]
    assert retire_on(shop, today + LATER) == []
    with shop.connect() as connection:
        left = "select tablename from pg_tables where schemaname = %s order by 1"
        names = [name for (name,) in connection.execute(left, [shop.schemas.marts])]
    assert names == ["counts", "item_tool", "items", "of_somebody_else", "owners", "parts"]
    assert "item_book" not in shop.builds()


def test_one_that_a_view_reads_or_somebody_uses_stays(shop: Shop) -> None:
    day = datetime.now(UTC).date()
    retire_on(shop, day)
    shop.execute("create view marts.mine as select * from marts.item_book")
    assert [each.name for each in retire_on(shop, day + LATER)] == ["item_book"]
    shop.execute("drop view marts.mine")
    with shop.tenant.ro.connect() as reader:
        reader.execute("select count(*) from item_book")
        assert [each.name for each in retire_on(shop, day + LATER)] == ["item_book"]
    assert retire_on(shop, day + LATER) == []


def test_one_of_an_earlier_version_of_the_platform_is_known_by_its_comment(shop: Shop) -> None:
    shop.execute("delete from staging.explorer_tables where name = 'item_book'")
    assert retire_on(shop, datetime.now(UTC).date()) == []
    shop.execute("comment on table marts.item_book is 'Retired since 2026-01-01: the source is gone. It was: books'")
    [retired] = retire_on(shop, date(2026, 1, 2))
    assert (retired.name, retired.since) == ("item_book", "2026-01-01")


def test_one_whose_source_comes_back_is_built_again(shop: Shop) -> None:
    shop.tables = [table for table in TABLES if table.name != "item_book"]
    shop.update()
    shop.put_item("i0", "tool")
    shop.update()
    shop.tables = TABLES
    assert shop.update().results["item_book"].verb == "built"
    assert comment(shop, "item_book") == "One row per book."
    assert shop.read("select count(*) from item_book") == [(2,)]
