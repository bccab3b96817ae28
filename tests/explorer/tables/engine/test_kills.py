"""A killed or interrupted update leaves each table as before or as after, and the next one goes on."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from explorer.tables.engine import TableResult
from explorer.tables.values import Rows
from tests.conftest import tenants
from tests.explorer.tables.engine.shop import COUNTS, KINDS, NAMES, Shop


def killed_at(statement: int, work: Callable[[], Any]) -> bool:
    """Do the work in a child process that is killed when it begins its n-th statement; whether it was."""
    child = os.fork()
    if child == 0:
        numbers = count(1)

        def watch(frame: FrameType, event: str, _: Any) -> None:
            is_statement = frame.f_code.co_name == "execute" and "psycopg" in frame.f_code.co_filename
            if event == "call" and is_statement and next(numbers) == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        threading.setprofile(watch)
        sys.setprofile(watch)
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def everything(shop: Shop) -> dict[str, Any]:
    rows, builds = shop.rows(), shop.builds()
    return {name: (rows[name], builds[name].rows, builds[name].findings) for name in NAMES}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 90), st.booleans())
def test_an_update_that_was_killed_anywhere_is_made_good(
    connections: Connections, statement: int, is_built: bool
) -> None:
    """Of an item that changed its kind the new one is known already, the old one nowhere but in the table that it must leave."""
    with tenants(connections) as make:
        shop = Shop(make())
        shop.make_raw()
        for number in range(4):
            shop.put_item(f"i{number}", KINDS[number % 2], size="x", parts=["a"])
        if is_built:
            shop.update()
            shop.put_item("i0", "tool", size="7", parts=["b", "c"])
            shop.take("raw_items", "i1")
            shop.put("raw_owners", "o1", {"name": "Asha"})
        killed_at(statement, shop.update)
        assert all(result.is_current for result in shop.update().results.values())
        healed = everything(shop)
        shop.update(by_need=False)
        assert everything(shop) == healed
        left = "tablename like '\\_%%' or tablename like 'explorer\\_changed\\_%%'"
        with shop.connect() as connection:
            query = f"select tablename from pg_tables where schemaname = any(%s) and ({left})"
            assert connection.execute(query.encode(), [[shop.schemas.marts, shop.schemas.staging]]).fetchall() == []


def queries(shop: Shop) -> list[tuple[Any, ...]]:
    query = "select query from pg_stat_activity where usename = %s and state <> 'idle' and query like '%%sleep%%'"
    with shop.connect() as connection:
        return [row for row in connection.execute(query, [shop.schemas.rw]) if "pg_stat_activity" not in row[0]]


def until(condition: Callable[[], bool], limit_s: float = 200) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


class Interrupt(BaseException):
    """Like Dagster's interrupt: no Exception."""


def test_an_exception_of_the_caller_ends_the_queries(shop: Shop) -> None:
    """Here an interrupt between two results, while a table is being built."""
    before = shop.rows()
    slow = replace(COUNTS, rows=Rows(None, queries=(("counted", "select owner_id, pg_sleep(600) is null from items"),)))
    slow = replace(slow, columns=slow.columns[:1], reads=("owners",))
    shop.put("raw_owners", "o1", {"name": "changed"})

    def interrupt(result: TableResult) -> None:
        if result.table == "items":
            assert until(lambda: bool(queries(shop)))
            raise Interrupt

    began = time.monotonic()
    with pytest.raises(Interrupt):
        shop.with_table(slow).update(on_result=interrupt)
    assert queries(shop) == []
    assert time.monotonic() - began < 300
    assert {name: rows for name, rows in shop.rows().items() if name not in ("owners", "items", "parts")} == {
        name: rows for name, rows in before.items() if name not in ("owners", "items", "parts")
    }
    assert all(result.is_current for result in shop.update().results.values())


@contextmanager
def a_child(work: Callable[[], Any]) -> Iterator[int]:
    """A process that does the work. It ends whatever the work or the test do: with 3 if it was interrupted, 1 for an error."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            status = 0
        except KeyboardInterrupt:
            status = 3
        finally:
            os._exit(status)
    try:
        yield child
    finally:
        with suppress(ChildProcessError):
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def asleep(shop: Shop) -> Callable[[], Any]:
    """An update that is long at one table."""
    slow = replace(COUNTS, rows=Rows(None, queries=(("counted", "select 'x' as owner_id, pg_sleep(600) is null"),)))
    return shop.with_table(replace(slow, columns=slow.columns[:1], reads=())).update


def test_ctrl_c_ends_the_queries(shop: Shop) -> None:
    with a_child(asleep(shop)) as child:
        assert until(lambda: bool(queries(shop)))
        os.kill(child, signal.SIGINT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert queries(shop) == []


def test_queries_of_a_killed_process_end(shop: Shop) -> None:
    with a_child(asleep(shop)) as child:
        assert until(lambda: bool(queries(shop)))
        os.kill(child, signal.SIGKILL)
    assert until(lambda: queries(shop) == [])
