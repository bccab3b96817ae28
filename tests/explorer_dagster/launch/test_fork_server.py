"""The server that forks workers: whom it answers, the failures that it survives, and the end of its workers."""

import os
import signal
import socket

from explorer_dagster.launch.fork_server import STALE
from tests.explorer_dagster.launch.conftest import DEADLINE_S, Pool, start, until


def test_a_request_is_answered_with_the_pid_of_a_process_of_its_own(pool: Pool) -> None:
    first, second = pool.worker(b"sleep"), pool.worker(b"sleep")
    assert first.alive()
    assert second.alive()
    assert len({first.pid, second.pid, pool.process.pid}) == 3
    # A Ctrl-C at the terminal of the pool is not for its workers.
    until(lambda: os.getsid(first.pid) == first.pid)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not first.alive())
    assert second.alive()
    assert pool.process.poll() is None


def test_the_socket_is_for_the_owner_alone(pool: Pool) -> None:
    assert pool.socket.stat().st_mode & 0o077 == 0
    assert pool.socket.parent.stat().st_mode & 0o077 == 0


def test_what_is_no_request_gets_no_worker_and_harms_nobody(pool: Pool) -> None:
    for garbage in (b"", b"\xff\xfe\x00", b"\x80" * 100_000):
        assert pool.ask(garbage) == b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.fspath(pool.socket))
    # The worker that fails is no second server, and takes the socket's file with it as little.
    failing = pool.worker(b"raise")
    until(lambda: not failing.alive())
    assert pool.socket.exists()
    assert pool.worker(b"sleep").alive()


def test_a_pool_whose_code_has_changed_says_so_and_ends(pool: Pool) -> None:
    worker = pool.worker(b"sleep")
    pool.era.unlink()
    assert pool.ask(b"sleep") == STALE
    assert pool.process.wait(DEADLINE_S) == 0
    assert not pool.socket.exists()
    # What it had begun goes on.
    assert worker.alive()
    os.kill(worker.pid, signal.SIGKILL)


def test_a_pool_that_is_ended_ends_its_workers_the_stubborn_too(pool: Pool) -> None:
    workers = [pool.worker(b"sleep"), pool.worker(b"stubborn")]
    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait(DEADLINE_S) == 0
    until(lambda: not any(worker.alive() for worker in workers))
    assert not pool.socket.exists()


def test_a_killed_pool_leaves_its_workers_and_a_socket_that_the_next_one_replaces(pool: Pool) -> None:
    worker = pool.worker(b"sleep")
    pool.process.kill()
    pool.process.wait(DEADLINE_S)
    assert worker.alive()
    assert pool.socket.exists()
    pool.process = start(pool.socket, pool.era)
    assert pool.process.stdout is not None
    assert pool.process.stdout.readline().startswith(b"warm, listening on ")
    assert pool.worker(b"sleep").alive()
    os.kill(worker.pid, signal.SIGKILL)


def test_there_is_one_pool_per_socket(pool: Pool) -> None:
    second = start(pool.socket, pool.era)
    said, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 1
    assert b"A warm pool is already running" in said
    assert pool.worker(b"sleep").alive()
