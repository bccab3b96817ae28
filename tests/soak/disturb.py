"""Clocks are set while parts work, the database restarts orderly and fails over, and a schedule asks together with all others.

    python -m tests.soak.disturb [DISTURBANCE ...]

The database is a server beside the platform (Debian's postgresql, with a copy that follows it) behind a forwarder: what clients
connect to stays, while the server behind it is another one. Every program of the platform is started under a clock that can be
moved (`clock.c`). As root, with gcc. The answers are those of `tests.soak.survive`.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from demo_commcare import NUTRITION, serve_in_thread
from explorer.contract.names import schedule_name
from explorer.core.ports import free_port
from tests.e2e.stack import ACTIVE, CHILDREN, Stack, environment
from tests.soak.survive import COUNT, ORPHANS_S, TRUTH_S, alive, is_healthy, is_truthful, run_state, within

PROGRAMS = Path(os.environ.get("POSTGRES_PROGRAMS", "/usr/lib/postgresql/15/bin"))
CLOCK = Path(__file__).with_name("clock.c")
FORWARD = Path(__file__).parents[1] / "hosts" / "forward.py"
# Until the status says what has become of parts; of that comes the time until they are well.
SETTLING_S = 10.0
# Which program has which clock: the first that its command line has.
CLOCKS = {
    "bridge": r"mcp_bridge",
    "daemon": r"dagster-daemon|dagster\.daemon",
    "webserver": r"explorer_dagster\.webserver",
    "code": r"code-server|api grpc",
    "workers": r"warm_pool|fork_server|execute_run",
    "others": r".",
}
# Run at each program's start, by way of PYTHONPATH: it starts itself again, under the clock that is its own.
_SITE = """import os, re, sys
if "clock.so" not in os.environ.get("LD_PRELOAD", ""):
    command = " ".join(sys.orig_argv)
    name = next(name for name, pattern in {clocks!r}.items() if re.search(pattern, command))
    os.environ.update(LD_PRELOAD={library!r}, CLOCK_FILE={folder!r} + "/" + name)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""


class Server:
    """A PostgreSQL in `folder`. `clock`: the file with its clock."""

    def __init__(self, folder: Path, clock: Path) -> None:
        self.folder, self.port, self._clock = folder, free_port(), clock

    def program(self, name: str, *arguments: str, **variables: str) -> None:
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            subprocess.run(
                [PROGRAMS / name, *arguments], check=True, user="postgres", group="postgres", extra_groups=[],
                cwd=self.folder.parent, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", **variables}, timeout=120,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def make(self, password: str) -> None:
        given = self.folder.parent / "password"
        given.write_text(password)
        given.chmod(0o644)
        self.program("initdb", "-D", str(self.folder), "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={given}")
        (self.folder / "pg_hba.conf").open("a").write("host replication all 127.0.0.1/32 scram-sha-256\n")

    def start(self) -> None:
        options = f"-p {self.port} -c max_connections=200 -c unix_socket_directories='' -c fsync=off"
        self.program(
            "pg_ctl", "-D", str(self.folder), "-w", "-l", f"{self.folder}.server.log", "-o", options, "start",
            LD_PRELOAD=str(self._clock.parent / "clock.so"), CLOCK_FILE=str(self._clock),
        )  # fmt: skip

    def follow(self, other: "Server", password: str) -> None:
        """Be a copy of another, and stay one."""
        place = ("-h", "127.0.0.1", "-p", str(other.port), "-U", "postgres")
        self.program(
            "pg_basebackup", "-D", str(self.folder), "-R", "-X", "stream", "-c", "fast", *place, PGPASSWORD=password
        )
        with (self.folder / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = 'host=127.0.0.1 port={other.port} user=postgres password={password}'\n")

    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def stop(self) -> None:
        if (self.folder / "postmaster.pid").exists():
            self.program("pg_ctl", "-D", str(self.folder), "-w", "-m", "fast", "stop")


class Ground:
    """A platform over `server`; `forwarder` is the way to it."""

    def __init__(
        self, folder: Path, stack: Stack, server: Server, standby: Server, address: int, password: str
    ) -> None:
        self.folder, self.stack, self.server, self.standby, self.address = folder, stack, server, standby, address
        self.password = password
        self.forwarder: subprocess.Popen[bytes] | None = None

    def lead_to(self, server: Server) -> None:
        self.close()
        self.forwarder = subprocess.Popen(
            [sys.executable, FORWARD, "127.0.0.1", str(self.address), "127.0.0.1", str(server.port)]
        )
        self.server = server

    def close(self) -> None:
        if self.forwarder is not None:
            self.forwarder.kill()
            self.forwarder.wait()

    def set_clock(self, off_s: int, *whose: str) -> None:
        """Of all that have one, if nobody is named."""
        for name in whose or (*CLOCKS, "database"):
            _set(self.folder / "clocks" / name, off_s)

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def fail_over(self) -> None:
        """The server is gone with its machine; the copy takes its place, at another address."""
        self.close()
        pid = self.server.pid()
        processes = [pid, *(int(each) for each in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True,
                                                                 check=False).stdout.split())]  # fmt: skip
        for each in processes:
            os.kill(each, signal.SIGKILL)
        self.standby.program("pg_ctl", "-D", str(self.standby.folder), "-w", "promote")
        self.lead_to(self.standby)


def _set(clock: Path, off_s: int) -> None:
    """In place: programs look at the file's memory."""
    with clock.open("r+b" if clock.exists() else "wb") as file:
        file.write(struct.pack("=q", off_s))


@contextmanager
def ground() -> Iterator[Ground]:
    folder = Path(tempfile.mkdtemp(prefix="explorer-disturb-"))
    folder.chmod(0o777)
    password = secrets.token_hex(12)
    clocks, site = folder / "clocks", folder / "site"
    clocks.mkdir()
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", clocks / "clock.so", CLOCK], check=True)
    site.mkdir()
    for name in (*CLOCKS, "database"):
        _set(clocks / name, 0)
    text = _SITE.format(clocks=CLOCKS, library=str(clocks / "clock.so"), folder=str(clocks))
    (site / "sitecustomize.py").write_text(text)
    server, standby = (Server(folder / name, clocks / "database") for name in ("first", "second"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server.make(password)
        for each in (server, standby):
            stack.callback(each.stop)
        server.start()
        address = free_port()
        demo = stack.enter_context(serve_in_thread(cases=240))
        given = {
            "EXPLORER_DATABASE_URL": f"postgresql://postgres:{password}@127.0.0.1:{address}/postgres",
            "DEMO_KEY": demo.api_key,
            "PYTHONPATH": str(site),
        }
        platform = Stack(folder / "home", demo, environment(folder / "home", **given))
        place = Ground(folder, platform, server, standby, address, password)
        stack.callback(place.close)
        place.lead_to(server)
        within(20, lambda: socket.create_connection(("127.0.0.1", address), 1).close() or True)
        stack.callback(platform.cli, "down", check=False)
        platform.up()
        platform.add_tenant(CHILDREN, NUTRITION)
        platform.token = platform.new_token("one", CHILDREN)
        assert platform.sync(CHILDREN)["status"] == "SUCCESS"
        yield place


def disturbed(place: Ground, name: str, act: Callable[[], None], undo: Callable[[], None] | None) -> dict[str, Any]:
    """Do it while a run works."""
    stack = place.stack
    before = stack.rows(CHILDREN, COUNT)[0][0]
    stack.demo.control.create_case(NUTRITION, "enfant", f"Born during {name}", {"sexe": "f"})
    stack.demo.control.set_latency(2)
    run_id = stack.call("run_materialization", tenant=CHILDREN, wait_s=0)["data"]["run_id"]
    within(90, lambda: run_state(stack, run_id)[0] == "STARTED" and run_state(stack, run_id)[1])
    worker = run_state(stack, run_id)[1]
    began = time.monotonic()
    act()
    told: dict[str, Any] = {"took_s": round(time.monotonic() - began, 1)}
    began = time.monotonic()
    time.sleep(SETTLING_S)
    stack.demo.control.set_latency(0)
    told["healthy_s"] = within(TRUTH_S, lambda: is_healthy(stack), began)
    told["run_truthful_s"] = within(TRUTH_S, lambda: is_truthful(stack, run_id), began)
    told["old_rows_served"] = (
        within(TRUTH_S, lambda: before <= stack.rows(CHILDREN, COUNT)[0][0] <= before + 1) is not None
    )
    within(150, lambda: run_state(stack, run_id)[0] not in ACTIVE)
    told["run"] = run_state(stack, run_id)[0]
    told["worker_gone_s"] = within(ORPHANS_S, lambda: not alive(worker))
    told["exact"] = exact(stack)
    if undo is not None:
        undo()
        time.sleep(SETTLING_S)
        told["healthy_again_s"] = within(TRUTH_S, lambda: is_healthy(stack))
        stack.demo.control.create_case(NUTRITION, "enfant", f"Born after {name}", {"sexe": "m"})
        told["exact_again"] = exact(stack)
    told["ok"] = all(value is not None and value is not False for value in told.values())
    return told


def exact(stack: Stack) -> bool:
    """Whether the next run ends well, with the server's rows."""
    return bool(
        stack.sync(CHILDREN)["status"] == "SUCCESS"
        and stack.rows(CHILDREN, COUNT) == [[len(stack.demo.truth(NUTRITION).cases)]]
    )


def four_doors(place: Ground) -> dict[str, Any]:
    """An agent, the command line and the UI ask in the second in which the tenant's schedule has its turn."""
    stack = place.stack
    stack.cli("tenants", "schedule", CHILDREN, "--cron", "* * * * *", "--start")
    selector = {"repositoryLocationName": "explorer", "repositoryName": "__repository__"}
    schedule = {**selector, "scheduleName": schedule_name("commcare_sync")}
    text = "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename ... on PythonError { message } } }"
    told: dict[str, Any] = {"schedule": stack.graphql(text, s=schedule)["startSchedule"]["__typename"]}
    stack.demo.control.create_case(NUTRITION, "enfant", "Four doors", {"sexe": "m"})
    stack.demo.control.set_latency(0.5)
    params = {
        "selector": {**selector, "jobName": "commcare_sync"},
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": CHILDREN}]},
    }
    launched = "__typename ... on LaunchRunSuccess { run { runId } }"
    launch = f"mutation($p: ExecutionParams!) {{ launchRun(executionParams: $p) {{ {launched} }} }}"
    doors: tuple[Callable[[], Any], ...] = (
        lambda: stack.call("run_materialization", tenant=CHILDREN, wait_s=0),
        lambda: json.loads(stack.cli("sync", CHILDREN, "--json").stdout),
        lambda: stack.graphql(launch, p=params)["launchRun"],
    )
    first = time.time()
    time.sleep(60 - first % 60)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda ask=each: answers.append(_run_of(ask()))) for each in doors]
    for thread in threads:
        thread.start()
    most, seen, end = 0, {}, time.monotonic() + 75
    recent = """{ runsOrError(filter: {createdAfter: %f}) { ... on Runs { results { runId status tags { key value } } } } }"""
    while time.monotonic() < end:
        runs = stack.graphql(recent % first)["runsOrError"]["results"]
        most = max(most, sum(run["status"] in ("STARTING", "STARTED") for run in runs))
        seen = {run["runId"]: run for run in runs}
        time.sleep(0.3)
    stop = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
    found = "query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule { id } } }"
    stack.graphql(stop, id=stack.graphql(found, s=schedule)["scheduleOrError"]["id"])
    for thread in threads:
        thread.join()
    stack.demo.control.set_latency(0)
    within(120, lambda: all(run_state(stack, run_id)[0] not in ACTIVE for run_id in seen))
    told["answered"] = sorted(answers)
    told["by"] = sorted(
        next((tag["value"] for tag in run["tags"] if tag["key"] == "dagster/schedule_name"), "somebody")
        for run in seen.values()
    )
    told |= {"at_work_at_once": most, "ended": [run_state(stack, run_id)[0] for run_id in seen], "exact": exact(stack)}
    return {**told, "ok": most == 1 and told["exact"]}


def _run_of(answer: dict[str, Any]) -> str:
    """The id of the run that a door answers with; without one what it said."""
    for path in (("data", "run_id"), ("run_id",), ("run", "runId")):
        found: Any = answer
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if found:
            return str(found)
    return json.dumps(answer)[:300]


def main(wanted: list[str]) -> int:
    failed = 0
    with ground() as place:

        def clock(hours: float, *whose: str) -> tuple[Callable[[], None], Callable[[], None]]:
            return lambda: place.set_clock(round(3600 * hours), *whose), lambda: place.set_clock(0, *whose)

        disturbances: dict[str, tuple[Callable[[], None], Callable[[], None] | None]] = {
            "orderly-restart": (place.restart, None),
            "all-2h-back": clock(-2),
            "all-2d-ahead": clock(48),
            "database-2h-back": clock(-2, "database"),
            "workers-2h-back": clock(-2, "workers"),
            "daemon-1min-ahead": clock(1 / 60, "daemon"),
            "bridge-2h-back": clock(-2, "bridge"),
            "fail-over": (place.fail_over, None),
        }
        for name in wanted or ["four-doors", *disturbances]:
            if name == "fail-over":
                place.standby.follow(place.server, place.password)
                place.standby.start()
            try:
                told = four_doors(place) if name == "four-doors" else disturbed(place, name, *disturbances[name])
            except Exception as error:
                told = {"ok": False, "error": f"{type(error).__name__}: {error}"[:600]}
                place.set_clock(0)
            failed += not told["ok"]
            print(json.dumps({"disturbed": name, **told}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
