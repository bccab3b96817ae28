"""dbt's process: it ends with its queries when we are interrupted or killed, and readers see old rows or new ones meanwhile."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from explorer.marts import Models, build, manifest, process, read_ahead
from explorer.marts.errors import TransformFailed
from explorer.tables.engine.results import TableResult
from tests.explorer.marts.studio import PROVIDER, Studio, until

MakeStudio = Callable[..., Studio]
SLOW = "select 1 as id, pg_sleep({seconds})::text as slept"


class Interrupt(BaseException):
    """Like Dagster's interrupt: no Exception."""


@pytest.fixture
def slow(make_studio: MakeStudio) -> Studio:
    """A model that is built, and whose next build takes ten minutes."""
    studio = make_studio(slow=SLOW.format(seconds=0), then="select 1 as id from {{ ref('slow') }}")
    studio.build()
    studio.write(slow=SLOW.format(seconds=600))
    return studio


def _is_slow(studio: Studio) -> bool:
    return any("pg_sleep(600)" in query for _, query in studio.queries())


def _dbt_processes() -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "explorer.marts"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def _tables(studio: Studio) -> list[str]:
    with studio.tenant.rw.connect() as connection:
        query = "select tablename::text from pg_tables where schemaname = %s order by 1"
        return [name for (name,) in connection.execute(query, [studio.tenant.names.marts])]


def test_an_interrupt_leaves_no_query_and_the_old_table(slow: Studio) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        ours = os.getpid()
        threading.Thread(target=lambda: until(lambda: _is_slow(slow), 200) and os.kill(ours, signal.SIGUSR1)).start()
        with pytest.raises(Interrupt):
            slow.build()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert until(lambda: slow.queries() == [], 2)
    assert slow.read("select id, slept from slow") == [(1, "")]
    assert _tables(slow) == ["slow", "then"]
    # The next build starts another process; as the project is what it was before, so are its tables.
    slow.write(slow=SLOW.format(seconds=0))
    assert set(slow.verbs().values()) == {"unchanged"}
    assert set(slow.verbs(by_need=False).values()) == {"built"}


def test_an_error_of_the_caller_ends_dbt(make_studio: MakeStudio) -> None:
    studio = make_studio(a="select 1 as id", slow=SLOW.format(seconds=600))

    def complain(result: TableResult) -> None:
        raise LookupError(result.table)

    with pytest.raises(LookupError, match="a"):
        studio.build(on_result=complain)
    assert until(lambda: studio.queries() == [], 2)


def _build_in(studio: Studio) -> BaseProcess:
    builder = multiprocessing.get_context("fork").Process(target=studio.build)
    builder.start()
    return builder


def test_whoever_is_killed_takes_dbt_and_its_queries_along(slow: Studio) -> None:
    builder = _build_in(slow)
    assert until(lambda: _is_slow(slow), 200)
    builder.kill()
    assert until(lambda: slow.queries() == [], 20)
    assert slow.read("select id, slept from slow") == [(1, "")]


def test_a_dbt_that_is_killed_is_an_error_and_its_queries_end(slow: Studio) -> None:
    def kill() -> None:
        until(lambda: _is_slow(slow), 200)
        [dbt] = _dbt_processes()
        os.kill(dbt, signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(TransformFailed, match="process ended"):
        slow.build()
    assert until(lambda: slow.queries() == [], 20)
    assert slow.read("select id, slept from slow") == [(1, "")]


def test_a_killed_build_is_made_up_for(slow: Studio) -> None:
    builder = _build_in(slow)
    assert until(lambda: _is_slow(slow), 200)
    builder.kill()
    assert until(lambda: slow.queries() == [], 20)
    slow.write(slow="select 2 as id")
    assert set(slow.verbs().values()) == {"built"}
    assert slow.read("select * from slow") == [(2,)]
    assert _tables(slow) == ["slow", "then"]


def test_a_process_that_stands_by_is_used_and_its_environment_is_its_own(make_studio: MakeStudio) -> None:
    studio = make_studio(one="select 1 as n")
    before = dict(os.environ)
    studio.build()
    first = _dbt_processes()
    studio.build(by_need=False)
    assert _dbt_processes() == first
    assert len(first) == 1
    assert dict(os.environ) == before


def test_a_main_module_that_uses_dbt_as_it_is_imported_is_not_run_again(
    make_studio: MakeStudio, tmp_path: Path
) -> None:
    """Such as a script of Dagster's definitions, which has no `if __name__`."""
    studio = make_studio(one="select 1 as n")
    main = tmp_path / "main.py"
    main.write_text(
        "from pathlib import Path\n"
        "from explorer.core.settings import Settings\n"
        "from explorer.marts import manifest\n"
        f"settings = Settings(_env_file=None, home={str(tmp_path)!r}, project_dir={str(studio.settings.project_dir)!r})\n"
        f"print('read', [node['name'] for node in manifest(settings, {PROVIDER!r})['nodes'].values()])\n"
    )
    ran = subprocess.run([sys.executable, str(main)], capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.stderr) == ("read ['one']\n", "")


def test_a_forked_process_serves(make_studio: MakeStudio) -> None:
    """As a worker of the warm pool does it: fork first, threads later."""
    studio = make_studio(one="select 1 as n")

    def work() -> None:
        process.stand_by()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        os._exit(0 if set(studio.verbs().values()) == {"built"} else 1)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert studio.read("select n from one") == [(1,)]


def test_a_build_uses_what_was_read_ahead_and_reads_itself_where_that_failed(make_studio: MakeStudio) -> None:
    studio = make_studio(one="select 1 as n")
    studio.build()
    models = Models(manifest(studio.settings, PROVIDER))
    reading = studio.dbt.folder / "target" / "partial_parse.msgpack"

    def build_one() -> list[tuple[Any, ...]]:
        build(
            studio.dbt, models, wanted=None, by_need=False, run_id="r", on_plan=lambda _: None, on_result=lambda _: None
        )
        return studio.read("select n from one")

    before = reading.stat().st_mtime_ns
    studio.write(one="select 2 as n")
    read_ahead(studio.dbt)
    assert until(lambda: reading.stat().st_mtime_ns != before, 100)
    studio.write(one="select 3 as n")
    assert build_one() == [(2,)]
    assert build_one() == [(3,)]
    studio.write(one="select {{ broken")
    read_ahead(studio.dbt)
    with pytest.raises(TransformFailed, match="dbt stopped"):
        build_one()
    studio.write(one="select 4 as n")
    assert build_one() == [(4,)]


def test_readers_see_the_old_rows_or_the_new_ones(make_studio: MakeStudio) -> None:
    """A long query holds the old table while it is replaced; short ones go on all the time, and a view reads on."""
    studio = make_studio(
        numbers="select n, now() as made from generate_series(1, 1000) as n",
        shown="{{ config(materialized='view') }} select count(*)::int as n from {{ ref('numbers') }}",
    )
    studio.build()
    counts: list[int] = []
    stop = threading.Event()

    def read_on() -> None:
        with studio.tenant.ro.connect(autocommit=True) as connection:
            while not stop.is_set():
                counts.extend(connection.execute("select count(*)::int from numbers").fetchone() or ())
                counts.extend(connection.execute("select n from shown").fetchone() or ())

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        with studio.tenant.ro.connect() as long_query:
            long_query.execute("select count(*) from numbers")
            threading.Timer(2.0, long_query.rollback).start()
            assert studio.verbs(wanted={"numbers"}, by_need=False) == {"numbers": "built"}
    finally:
        stop.set()
        reader.join()
    assert set(counts) == {1000}


def test_what_depends_on_a_table_is_never_dropped(make_studio: MakeStudio) -> None:
    """Views read the new table; a view of the project that does not fit is made again; for others the model fails."""
    studio = make_studio(
        numbers="{{ config(indexes=[{'columns': ['n']}]) }} select 1 as n, 2 as m",
        shown="{{ config(materialized='view') }} select m from {{ ref('numbers') }}",
    )
    studio.build()
    marts = studio.tenant.names.marts
    with studio.tenant.rw.connect() as connection:
        connection.execute(f"create view {marts}.own with (security_barrier) as select n from {marts}.numbers".encode())
        connection.execute(f"grant select on {marts}.own to public".encode())
    studio.write(
        numbers="{{ config(indexes=[{'columns': ['n']}]) }} select 10 as n, 'twenty' as m",
        shown="{{ config(materialized='view') }} select m || '!' as m from {{ ref('numbers') }}",
    )
    assert {name: each.message for name, each in studio.build().results.items()} == {"numbers": None, "shown": None}
    assert studio.read("select n, m from own, shown") == [(10, "twenty!")]
    with studio.tenant.rw.connect() as connection:
        [(options,)] = connection.execute("select reloptions from pg_class where oid = %s::regclass", [f"{marts}.own"])
        [(indexes,)] = connection.execute("select count(*) from pg_indexes where schemaname = %s", [marts])
    assert (options, indexes) == (["security_barrier=true"], 1)
    studio.write(numbers="select 'ten' as n, 'twenty' as m")
    failed = studio.build().results["numbers"]
    assert failed.verb == "failed"
    assert "cannot change data type of view column" in str(failed.message)
    assert studio.read("select n from own") == [(10,)]
    assert _tables(studio) == ["numbers"]


def test_descriptions_are_comments(make_studio: MakeStudio) -> None:
    studio = make_studio(one="select 1 as n")
    about = (
        'models: [{name: one, description: \'One row, "quoted" $$.\', columns: [{name: n, description: "It\'s one."}]}]'
    )
    studio.write({"models/commcare/marts/one.yml": about})
    studio.build()
    marts = studio.tenant.names.marts
    query = "select obj_description(t, 'pg_class'), col_description(t, 1) from (select %s::regclass) as x (t)"
    with studio.tenant.rw.connect() as connection:
        assert connection.execute(query, [f"{marts}.one"]).fetchall() == [('One row, "quoted" $$.', "It's one.")]
