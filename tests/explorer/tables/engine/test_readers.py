"""Readers see the rows before or after, never wait, and keep their views. What they see has a record that is true."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from explorer.contract.bookkeeping import builds as build_records
from tests.explorer.tables.engine.shop import ITEMS, OWNERS, Shop, column


@pytest.fixture
def seen(shop: Shop) -> Iterator[list[tuple[Any, ...]]]:
    """What somebody sees who asks again and again: how many items there are, and what they say."""
    found: list[tuple[Any, ...]] = []
    done = threading.Event()

    def read() -> None:
        with shop.tenant.ro.connect(autocommit=True) as connection:
            while not done.is_set():
                query = "select count(*), count(distinct record ->> 'note'), min(record ->> 'note') from items"
                found.extend(connection.execute(query).fetchall())

    note_all(shop, 0)
    shop.update()
    thread = threading.Thread(target=read)
    thread.start()
    yield found
    done.set()
    thread.join()


def note_all(shop: Shop, number: int) -> None:
    shop.execute(
        "update raw.raw_items set _loaded_at = clock_timestamp(), record = jsonb_set(record, '{note}', to_jsonb(%s::text))",
        f"note {number}",
    )


def test_readers_see_before_or_after_and_hold_nobody_up(shop: Shop, seen: list[tuple[Any, ...]]) -> None:
    with shop.tenant.ro.connect() as still_open:
        # On a busy machine the updates take longer than a reader's transaction may.
        if still_open.info.server_version >= 170000:
            still_open.execute("set transaction_timeout = 0")
        still_open.execute("set idle_in_transaction_session_timeout = 0")
        still_open.execute("set transaction isolation level repeatable read")
        before = still_open.execute("select min(record ->> 'note') from items").fetchall()
        for number in range(1, 4):
            note_all(shop, number)
            assert shop.update().results["items"].verb == "applied"
        assert still_open.execute("select min(record ->> 'note') from items").fetchall() == before == [("note 0",)]
    for number in range(4, 7):
        note_all(shop, number)
        assert shop.update(by_need=False).results["items"].verb == "built"
    assert shop.read("select distinct record ->> 'note' from items") == [("note 6",)]
    assert {(rows, notes) for rows, notes, _ in seen} == {(6, 1)}
    assert {note for *_, note in seen} > {"note 0"}


def test_a_long_query_holds_up_the_swap_and_no_reader(shop: Shop) -> None:
    with shop.tenant.ro.connect() as long_query:
        long_query.execute("select count(*) from items")
        timer = threading.Timer(2.0, long_query.rollback)
        timer.start()
        building = threading.Thread(target=shop.update, kwargs={"by_need": False, "wanted": {"items"}})
        building.start()
        counts = set()
        while building.is_alive():
            counts.add(shop.read("select count(*) from items")[0][0])
        building.join()
        timer.join()
    assert counts == {6}
    assert shop.builds()["items"].run_id == "run 2"


def test_rows_and_record_are_of_one_run(shop: Shop) -> None:
    """In one snapshot the newest note and the record tell the same run."""
    done = threading.Event()
    pairs: list[tuple[Any, ...]] = []

    def read() -> None:
        with shop.connect() as connection:
            while not done.is_set():
                with connection.transaction():
                    connection.execute("set transaction isolation level repeatable read, read only")
                    query = f"select min(record ->> 'note') from {shop.schemas.marts}.items"
                    [[note]] = connection.execute(query.encode()).fetchall()
                    build = build_records.read_provenance(connection, shop.schemas)["items"]
                pairs.append((note, build.run_id, build.rows))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(6):
        note_all(shop, number)
        shop.update(run_id=f"note {number}", by_need=bool(number % 2))
    done.set()
    thread.join()
    assert {rows for *_, rows in pairs} == {6}
    assert {(note, run) for note, run, _ in pairs if note} <= {(f"note {number}",) * 2 for number in range(6)}
    assert len(set(pairs)) > 2


def test_views_that_read_a_table_read_the_new_one(shop: Shop) -> None:
    """Also views of views; with their comments, and columns of the types that they have now."""
    shop.execute("create view staging.stg_items as select item_id, size, owner_name from marts.items")
    shop.execute(
        "create view marts.big with (security_barrier = true) as select * from staging.stg_items where size > 2"
    )
    shop.execute("comment on view marts.big is 'It''s big'")
    shop.execute("comment on column marts.big.size is 'How big'")
    shop.put_item("i9", "book", "o1", size="9")
    columns = [column("size", value="record ->> 'size'") if each.name == "size" else each for each in ITEMS.columns]
    assert shop.update(by_need=False).results["items"].verb == "built"
    assert shop.read("select item_id, size from big order by 1") == [("i3", 3), ("i4", 4), ("i5", 5), ("i9", 9)]
    with shop.connect() as connection:
        view = f"{shop.schemas.marts}.big"
        said = "select obj_description(oid), col_description(oid, 2), reloptions from pg_class where oid = %s::regclass"
        assert connection.execute(said, [view]).fetchall() == [("It's big", "How big", ["security_barrier=true"])]
    result = shop.with_table(replace(ITEMS, columns=tuple(columns))).update().results["items"]
    assert (result.verb, str(result.message)[:20]) == ("failed", "operator does not ex")
    assert shop.read("select count(*) from big") == [(4,)]
    # dbt's own views do not hold up what they read.
    shop.execute(
        "insert into staging.explorer_tables (name, kind, definition, relation, version, run_id, changed_at) select name,"
        " 'model', 'd', 0, 0, 'run', now() from unnest(array['stg_items', 'big']) as each (name)"
    )
    result = shop.with_table(replace(ITEMS, columns=tuple(columns))).update().results["items"]
    assert result.message == "without the views big, which do not fit it any more: dbt builds them again"
    assert shop.read("select size from items where item_id = 'i9'") == [("9",)]


def test_what_others_made_of_a_table_is_not_dropped(shop: Shop, connections: Any) -> None:
    with connections.admin.connect(autocommit=True) as admin:
        admin.execute(
            f"create view public.of_{shop.schemas.prefix} as select * from {shop.schemas.marts}.items".encode()
        )
    try:
        result = shop.update(by_need=False).results["items"]
        assert result.verb == "failed"
        assert f"view public.of_{shop.schemas.prefix} depends on table items" in str(result.message)
        assert shop.read("select count(*) from items") == [(6,)]
    finally:
        with connections.admin.connect(autocommit=True) as admin:
            admin.execute(f"drop view public.of_{shop.schemas.prefix}".encode())


def test_a_view_in_the_place_of_a_table_makes_way(shop: Shop) -> None:
    shop.execute("drop table marts.owners")
    shop.execute("create view marts.owners as select 'x' as owner_id")
    shop.execute("create view marts.more as select * from marts.owners")
    assert shop.update().results["owners"].verb == "built"
    assert sorted(shop.read("select owner_id from more")) == [("o1",), ("o2",)]
    assert OWNERS.name in shop.builds()


def test_a_view_of_tables_that_are_built_at_the_same_time_stays(shop: Shop) -> None:
    read = "marts.item_book cross join marts.item_tool cross join marts.parts"
    shop.execute(f"create view marts.pairs as select count(*) from {read}")
    for _ in range(8):
        assert [result.message for result in shop.update(by_need=False).failures()] == []
        assert shop.read("select * from pairs") == [(3 * 3 * 12,)]
