"""Parts are started in order, restarted, stopped, and found after their supervisor was killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from explorer.core.errors import TransientError
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli.errors import AlreadyRunning, PartFailed
from explorer_cli.platform.status import describe
from explorer_cli.supervision.leftovers import stop_leftovers
from explorer_cli.supervision.lock import Lock, holder_of
from explorer_cli.supervision.processes import marked, stop_recorded, wait_until
from explorer_cli.supervision.supervisor import Supervisor
from explorer_cli.supervision.units import Hindered, Part, Step

SLEEPER = "import time; print('hello', flush=True); time.sleep(600)"
# A grandchild in a session of its own, as Dagster's forked runs are; it ignores SIGTERM.
FORKER = """
import os, signal, time, pathlib, sys
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)
time.sleep(600)
"""
SUPERVISOR = """
import sys, pathlib
sys.path.insert(0, {root!r})
from explorer_cli.supervision.lock import Lock
from explorer_cli.supervision.supervisor import Supervisor
from tests.explorer_cli.supervision.test_supervisor import part, FORKER
home = pathlib.Path({home!r})
lock = Lock(home); lock.acquire()
supervisor = Supervisor(home, [part("forker", FORKER, str(home / "grandchild"))], lock=lock)
supervisor.start(); supervisor.wait_ready(); print("up", flush=True)
supervisor.wait_failed()
"""
ROOT = str(Path(__file__).resolve().parents[3])


def part(name: str, code: str, *args: str, needs: tuple[str, ...] = (), **options: Any) -> Part:
    options.setdefault("ready", lambda: True)
    return Part(name, name.title(), [sys.executable, "-c", code, *args], dict(os.environ), needs=needs, **options)


@contextmanager
def supervised(home: Path, *units: Part | Step) -> Iterator[Supervisor]:
    lock = Lock(home)
    lock.acquire()
    supervisor = Supervisor(home, units, lock=lock)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


def pid_of(home: Path, name: str) -> int:
    return int(read_state(home)["pids"].get(name, 0))


def test_parts_wait_for_what_they_need_and_are_stopped_with_their_steps_undone(home: Path) -> None:
    order: list[str] = []
    step = Step(
        "store", "Store", lambda: order.append("run") or {"database": {"port": 5}}, undo=lambda: order.append("undo")
    )
    late = part("late", SLEEPER, needs=("store",), ready=lambda: order.append("probe") or True)
    with supervised(home, step, late) as supervisor:
        assert supervisor.wait_ready(timeout_s=20)
        state = read_state(home)
        assert order[:2] == ["run", "probe"]
        assert state["ready"] is True
        assert state["database"] == {"port": 5}
        identity = ProcessIdentity.of(state["pids"]["late"])
        assert identity.alive()
        assert wait_until(lambda: "hello" in (home / "logs" / "late.log").read_text(), 10)
    assert not identity.alive()
    assert order[-1] == "undo"
    assert read_state(home) == {}
    assert holder_of(home) is None


def test_a_killed_part_comes_back(home: Path) -> None:
    with supervised(home, part("worker", SLEEPER)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        first = pid_of(home, "worker")
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: pid_of(home, "worker") not in (0, first), 20)
        assert supervisor.wait_ready(timeout_s=20)
        (status,) = supervisor.snapshot()
        assert status.restarts == 1


def test_a_clock_that_is_set_starts_those_again_that_wait_by_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [0.0]
    monkeypatch.setattr("explorer_cli.supervision.supervisor.clock_ahead", lambda: ahead[0])
    waiter, other = part("waiter", SLEEPER, waits_by_clock=True), part("other", SLEEPER)
    with supervised(home, waiter, other) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        before = {name: pid_of(home, name) for name in ("waiter", "other")}
        for step in (-1.0, 1.0):
            ahead[0] += step
            time.sleep(0.5)
            assert {name: pid_of(home, name) for name in before} == before
        for restarts, step in ((1, -7200.0), (2, 7200.0)):
            last = pid_of(home, "waiter")
            ahead[0] += step
            assert wait_until(lambda last=last: pid_of(home, "waiter") not in (0, last), 20)
            assert supervisor.wait_ready(timeout_s=20)
            assert [(unit.name, unit.restarts) for unit in supervisor.snapshot()] == [
                ("waiter", restarts),
                ("other", 0),
            ]
        assert pid_of(home, "other") == before["other"]


def test_a_step_whose_work_was_undone_is_repeated(home: Path) -> None:
    runs: list[int] = []
    broken: list[int] = []
    step = Step(
        "store",
        "Store",
        lambda: runs.append(1) or {},
        ready=lambda: not broken or bool(broken.clear()),
        health_interval_s=0.1,
    )
    with supervised(home, step) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        broken.append(1)
        assert wait_until(lambda: len(runs) == 2, 20)
        assert supervisor.wait_ready(timeout_s=20)


def test_a_part_that_never_came_up_fails_the_start_with_its_last_words(home: Path) -> None:
    with (
        supervised(
            home, part("broken", "import sys; print('no such table'); sys.exit(3)", ready=lambda: False)
        ) as supervisor,
        pytest.raises(PartFailed) as failure,
    ):
        supervisor.wait_ready(timeout_s=20)
    assert "ended with status 3" in failure.value.message
    assert failure.value.details["log"] == ["no such table"]
    assert str(home / "logs" / "broken.log") in failure.value.next_step


def test_a_part_that_runs_and_cannot_work_fails_the_start_at_once_with_its_reason(home: Path) -> None:
    def is_ready() -> bool:
        raise Hindered("a typing error in a model", next_step="Mend it.")

    with supervised(home, part("loader", SLEEPER, ready=is_ready)) as supervisor, pytest.raises(Hindered) as failure:
        supervisor.wait_ready(timeout_s=100)
    assert failure.value.message == "a typing error in a model"


def test_an_optional_part_that_fails_keeps_nobody_waiting_and_is_tried_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer_cli.supervision.transitions.RESTART_DELAYS_S", (0.05, 0.1))
    sign = home / "mended"
    code = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).exists() or sys.exit(3); time.sleep(600)"
    pool = part("pool", code, str(sign), ready=sign.exists, optional=True)
    with supervised(home, pool, part("worker", SLEEPER)) as supervisor:
        assert supervisor.wait_ready(timeout_s=20)
        state = read_state(home)
        assert state["ready"] is True
        assert (state["processes"]["pool"]["healthy"], state["processes"]["pool"]["optional"]) == (False, True)
        assert state["processes"]["worker"]["healthy"] is True
        shown = describe(Settings(_env_file=None, home=home))
        assert (shown["healthy"], shown["usable"]) == (False, True)
        assert wait_until(lambda: supervisor.snapshot()[0].restarts >= 3, 20)
        assert "ended with status 3" in supervisor.snapshot()[0].note or supervisor.snapshot()[0].state == "starting"
        sign.touch()
        assert wait_until(lambda: supervisor.snapshot()[0].state == "ready", 20)
        assert describe(Settings(_env_file=None, home=home))["healthy"] is True


def test_an_optional_part_that_hangs_while_it_starts_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer_cli.supervision.transitions.HANGING_GRACE_S", 0.2)
    hanging = part("pool", SLEEPER, ready=lambda: False, optional=True, start_timeout_s=0.3)
    with supervised(home, hanging) as supervisor:
        assert wait_until(lambda: pid_of(home, "pool") != 0, 10)
        first = ProcessIdentity.of(pid_of(home, "pool"))
        assert supervisor.wait_ready(timeout_s=20)
        assert "was not ready after 0.3 s" in supervisor.snapshot()[0].note
        assert not first.alive()
        assert wait_until(lambda: pid_of(home, "pool") not in (0, first.pid), 20)


def test_an_error_of_a_step_is_the_error_of_the_start_and_nothing_that_needs_it_begins(home: Path) -> None:
    def refuse() -> dict[str, Any]:
        raise TransientError("No room.", next_step="Make some.")

    with supervised(home, Step("store", "Store", refuse), part("late", SLEEPER, needs=("store",))) as supervisor:
        with pytest.raises(TransientError, match="No room"):
            supervisor.wait_ready(timeout_s=20)
        assert supervisor.snapshot()[1].state == "waiting"


def test_a_part_that_ignores_sigterm_is_killed_with_its_group(home: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    with supervised(home, part("stubborn", stubborn)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        assert wait_until(lambda: "deaf" in (home / "logs" / "stubborn.log").read_text(), 10)
        identity = ProcessIdentity.of(pid_of(home, "stubborn"))
    assert not identity.alive()


def test_an_owner_that_is_ending_is_waited_for(home: Path) -> None:
    """A killed process is gone before its last thread releases the lock."""
    ending = Lock(home)
    ending.acquire()
    release = threading.Timer(0.3, ending.release)
    release.start()
    lock = Lock(home)
    lock.acquire(within_s=30)
    release.join()
    lock.release()


def test_a_second_supervisor_is_refused_and_told_who_is_there(home: Path) -> None:
    first = Lock(home)
    first.acquire()
    with pytest.raises(AlreadyRunning) as refusal:
        Lock(home).acquire()
    assert refusal.value.details["pid"] == os.getpid()
    first.release()
    Lock(home).acquire()


@pytest.mark.parametrize("state", ["as it was", "gone", "truncated", "of another shape"])
def test_what_a_killed_supervisor_left_is_ended_by_the_next_one(home: Path, state: str) -> None:
    code = SUPERVISOR.format(root=ROOT, home=str(home))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == b"up\n"
        assert wait_until((home / "grandchild").exists, 10)
        supervisor.kill()
    instance = read_state(home)["instance"]
    child = ProcessIdentity.of(pid_of(home, "forker"))
    grandchild = ProcessIdentity.of(int((home / "grandchild").read_text()))
    assert child.alive()
    assert grandchild.alive()
    assert set(marked(instance)) == {child.pid, grandchild.pid}
    lock = Lock(home)
    lock.acquire()
    file = home / "run" / "state.json"
    if state == "gone":
        file.unlink()
    elif state != "as it was":
        file.write_bytes(
            file.read_bytes()[:-40] if state == "truncated" else b'{"processes": {"forker": 7}, "pids": [1]}'
        )
    # Without the names in it, running processes are identified by their mark.
    assert stop_leftovers(home) == (["forker"] if state == "as it was" else ["runs"])
    assert not child.alive()
    assert not grandchild.alive()
    lock.release()


def test_a_recycled_pid_is_never_signalled(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as stranger:
        known = ProcessIdentity.of(stranger.pid)
        recycled = ProcessIdentity(
            stranger.pid, str(int(known.started) + 1) if known.started.isdigit() else "yesterday"
        )
        processes = {"webserver": {"pid": recycled.pid, "started": recycled.started}}
        (home / "run" / "state.json").write_text(json.dumps({"instance": "0" * 16, "processes": processes}))
        assert stop_leftovers(home) == []
        assert not stop_recorded(recycled, 0.1)
        time.sleep(0.1)
        assert stranger.poll() is None
        assert stop_recorded(known, 5)
        assert stranger.wait() == -signal.SIGTERM
