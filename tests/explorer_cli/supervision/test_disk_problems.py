"""A full disk, a read-only HOME, damaged files: supervision continues, reports the problem and recovers without help."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer.core.home import HomeNotUsable
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli.errors import AlreadyRunning, PartFailed
from explorer_cli.platform.status import describe
from explorer_cli.supervision.home import open_home, space_problem, write_problem
from explorer_cli.supervision.lock import SILENT_AFTER_S, Lock, holder_of, problem_of
from explorer_cli.supervision.processes import wait_until
from explorer_cli.supervision.supervisor import Supervisor
from explorer_cli.supervision.units import Hindered, Step, UnitStatus
from tests.explorer_cli.conftest import Explorer
from tests.explorer_cli.supervision.test_supervisor import ROOT, SLEEPER, part, pid_of, supervised

KILOBYTE = 1024
CHATTY = "import time\nwhile True: print('x' * 1000, flush=True); time.sleep(0.05)"


@dataclass
class Disk:
    """A HOME on a small file system of its own (as root), or with a limit on the size of this process's files."""

    home: Path
    mounted: bool

    def fill(self, reason: str = "room") -> None:
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif reason == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(self.home)], check=True)
        elif reason == "files":
            folder = self.home / "many"
            folder.mkdir()
            with suppress(OSError):
                for number in range(10_000):
                    (folder / str(number)).touch()
        else:
            with suppress(OSError), (self.home / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(KILOBYTE))

    def free(self) -> None:
        if not self.mounted:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            return
        subprocess.run(["mount", "-o", "remount,rw", str(self.home)], check=True)
        (self.home / "ballast").unlink(missing_ok=True)
        for path in (self.home / "many").glob("*"):
            path.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    home = tmp_path / "small"
    home.mkdir()
    options = "size=512k,nr_inodes=60,mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)], check=False).returncode == 0
    open_home(home)
    disk = Disk(home, mounted)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            subprocess.run(["umount", "-l", str(home)], check=True)


def status_of(home: Path) -> dict[str, object]:
    return describe(Settings(_env_file=None, home=home, database_url=None))


@pytest.mark.parametrize("reason", ["room", "files"])
def test_nothing_can_be_written_and_everything_comes_back(disk: Disk, reason: str) -> None:
    home = disk.home
    with supervised(home, part("worker", SLEEPER), part("chatty", CHATTY)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        assert problem_of(home) is None
        assert status_of(home)["healthy"] is True
        disk.fill(reason)
        first = {status.name: status.pid for status in supervisor.snapshot()}
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)

        def restarted(name: str) -> bool:
            return any(s.name == name and s.restarts and s.state == "ready" for s in supervisor.snapshot())

        # Supervision continues although its own state cannot be written.
        assert wait_until(lambda: restarted("worker"), 20)
        problem = str(problem_of(home))
        assert problem.startswith(f"{home} cannot be written: ")
        assert os.strerror(errno.ENOSPC if disk.mounted else errno.EFBIG) in problem
        told = status_of(home)
        assert (told["running"], told["healthy"], told["problem"]) == (True, False, problem)
        with pytest.raises(AlreadyRunning, match=r"But all is not well: .* cannot be written"):
            Lock(home).acquire()

        disk.free()
        assert wait_until(lambda: restarted("chatty"), 30)
        assert wait_until(lambda: pid_of(home, "worker") not in (0, first["worker"]), 20)
        assert wait_until(lambda: status_of(home)["healthy"] is True, 20)
    assert read_state(home) == {}
    assert holder_of(home) is None


def test_everything_is_stopped_on_a_full_disk(disk: Disk) -> None:
    with supervised(disk.home, part("worker", SLEEPER)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        identity = ProcessIdentity.of(pid_of(disk.home, "worker"))
        disk.fill()
    assert not identity.alive()
    Lock(disk.home).acquire()


def test_a_start_on_a_full_disk_is_refused_with_the_reason(disk: Disk, explorer: Explorer) -> None:
    disk.fill()
    lock = Lock(disk.home)
    lock.acquire()
    with pytest.raises(HomeNotUsable, match="cannot be written"):
        Supervisor(disk.home, [part("worker", SLEEPER)], lock=lock).start()
    lock.release()
    if disk.mounted:
        for command in (("up", "--no-demo"), ("up", "--detach", "--no-demo"), ("db", "upgrade")):
            answer = explorer(
                *command, "--json", EXPLORER_HOME=str(disk.home), EXPLORER_DAGSTER_PORT="0", EXPLORER_BRIDGE_PORT="0"
            )
            assert answer.code == 1
            assert os.strerror(errno.ENOSPC) in answer.out
            assert "Traceback" not in answer.out + answer.err
    assert explorer("down", EXPLORER_HOME=str(disk.home)).code == 0


def test_a_home_that_can_only_be_read_is_looked_at_and_stopped_but_not_started(disk: Disk, explorer: Explorer) -> None:
    disk.fill("read-only")
    if disk.mounted:
        answer = explorer("up", "--no-demo", "--json", EXPLORER_HOME=str(disk.home))
        assert answer.json["error"]["code"] == "home_not_usable"
        assert os.strerror(errno.EROFS) in answer.json["error"]["message"]
    assert explorer("down", "--json", EXPLORER_HOME=str(disk.home)).json["stopped"] == []
    assert explorer("status", "--json", EXPLORER_HOME=str(disk.home)).json["running"] is False


def test_a_step_that_is_hindered_is_told_and_not_begun_again(home: Path) -> None:
    runs: list[int] = []
    full: list[str] = []

    def probe() -> bool:
        if full:
            raise Hindered(f"cannot write: {full[0]}.", next_step="Make room.")
        return True

    step = Step("store", "Store", lambda: runs.append(1) or {}, ready=probe, health_interval_s=0.1)
    with supervised(home, step) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        full.append("no space left on device")
        assert wait_until(lambda: supervisor.snapshot()[0].state == "unhealthy", 20)
        assert supervisor.snapshot()[0].note == "cannot write: no space left on device"
        assert wait_until(lambda: "no space" in read_state(home)["processes"]["store"]["note"], 20)
        full.clear()
        assert wait_until(lambda: supervisor.snapshot()[0].state == "ready", 20)
    assert runs == [1]


class Refuses:
    def __bool__(self) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_one_unit_that_goes_wrong_keeps_nobody_from_the_others(home: Path) -> None:
    odd = Step("odd", "Odd", dict, ready=Refuses, health_interval_s=0.1)
    with supervised(home, part("worker", SLEEPER), odd) as supervisor:
        supervisor.on_change = lambda status: print(1 / 0)
        assert supervisor.wait_ready(["worker"], timeout_s=20)
        assert wait_until(lambda: "No space left" in supervisor.snapshot()[1].note, 20)
        first = pid_of(home, "worker")
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: pid_of(home, "worker") not in (0, first), 20)


def test_a_supervisor_whose_thread_ends_says_so_and_stops(home: Path) -> None:
    def leave(status: UnitStatus) -> None:
        raise SystemExit("out of the thread")

    with supervised(home, part("worker", SLEEPER)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        identity = ProcessIdentity.of(pid_of(home, "worker"))
        supervisor.on_change = leave
        os.kill(identity.pid, signal.SIGKILL)
        with pytest.raises(PartFailed, match="The supervision of the parts ended: SystemExit: out of the thread"):
            supervisor.wait_failed()
        supervisor.on_change = lambda status: None


def test_a_supervisor_that_does_nothing_is_known_from_outside(home: Path) -> None:
    """It is alive and holds the lock, but is stopped: neither status nor up treats it as a running platform."""
    program = f"""
import sys, pathlib
sys.path.insert(0, {ROOT!r})
from explorer_cli.supervision.lock import Lock
from explorer_cli.supervision.supervisor import Supervisor
from tests.explorer_cli.supervision.test_supervisor import part, SLEEPER
home = pathlib.Path({str(home)!r})
lock = Lock(home); lock.acquire()
supervisor = Supervisor(home, [part("worker", SLEEPER)], lock=lock)
supervisor.start(); supervisor.wait_ready(); print("up", flush=True)
supervisor.wait_failed()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert status_of(home)["healthy"] is True
        process.send_signal(signal.SIGSTOP)
        lock = home / "run" / "up.lock"
        long_ago = lock.stat().st_mtime - SILENT_AFTER_S - 5
        os.utime(lock, (long_ago, long_ago))
        told = status_of(home)
        assert told["healthy"] is False
        assert f"process {process.pid} has not looked after its parts for" in str(told["problem"])
        with pytest.raises(AlreadyRunning, match="has not looked after its parts"):
            Lock(home).acquire()
        process.send_signal(signal.SIGCONT)
        assert wait_until(lambda: status_of(home)["healthy"] is True, 20)
        # The content of the lock file may be damaged, but the kernel knows the holder.
        lock.write_bytes(b"{")
        assert holder_of(home) == ProcessIdentity.of(process.pid)
        process.kill()


def test_a_damaged_state_file_is_written_anew(home: Path) -> None:
    with supervised(home, part("worker", SLEEPER)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        file = home / "run" / "state.json"
        whole = json.loads(file.read_text())
        for damaged in (b"", file.read_bytes()[:50], b"\xff\xfe", b"[]", b'{"processes": {"worker": 3}}', None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            assert read_state(home) == {} or read_state(home) == whole
            assert wait_until(lambda: read_state(home) == whole, 10)


def test_a_home_that_is_taken_away_ends_the_supervision_and_is_not_begun_anew(home: Path) -> None:
    runs: list[int] = []
    step = Step("store", "Store", lambda: runs.append(1) or {}, ready=lambda: home.exists(), health_interval_s=0.1)
    with supervised(home, step, part("worker", SLEEPER)) as supervisor:
        supervisor.wait_ready(timeout_s=20)
        identity = ProcessIdentity.of(pid_of(home, "worker"))
        moved = home.with_name("moved")
        home.rename(moved)
        with pytest.raises(HomeNotUsable, match="was removed or replaced while the platform ran"):
            supervisor.wait_failed()
    assert not identity.alive()
    assert runs == [1]
    assert not home.exists()


def test_a_log_that_cannot_be_written_keeps_no_part_from_running(home: Path) -> None:
    (home / "logs" / "worker.log").mkdir()
    with supervised(home, part("worker", SLEEPER)) as supervisor:
        assert supervisor.wait_ready(timeout_s=20)


def test_a_part_that_cannot_be_started_is_named_with_the_reason(home: Path) -> None:
    missing = part("worker", SLEEPER)
    missing.argv[0] = "/no/such/program"
    with supervised(home, missing) as supervisor, pytest.raises(PartFailed, match="could not be started"):
        supervisor.wait_ready(timeout_s=20)


def test_room_is_measured_for_ordinary_accounts(disk: Disk) -> None:
    assert write_problem(disk.home) is None
    assert space_problem(disk.home, 1 << 50)
    disk.fill()
    assert write_problem(disk.home)
    if disk.mounted:
        assert "0 MB free" in str(space_problem(disk.home))
