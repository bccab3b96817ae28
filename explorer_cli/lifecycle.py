"""What `up`, `down` and `status` do: one supervisor per HOME, in the foreground or not, and how it is seen from outside."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from explorer.core.errors import ExplorerError
from explorer.core.home import HomeNotUsable, keep_private
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli import display
from explorer_cli.context import open_settings
from explorer_cli.errors import PartFailed
from explorer_cli.home import Lock, hindrance, holder_of, problem_of
from explorer_cli.interrupts import Interrupts, StopRequested
from explorer_cli.output import answer_json, make_console, show_table, styled, tell
from explorer_cli.parts import database_answers, database_recovers, platform_units, stop_database
from explorer_cli.processes import stop_stranger, tail
from explorer_cli.supervisor import (
    LEFTOVERS_GRACE_S,
    STRAY_GRACE_S,
    Step,
    Supervisor,
    UnitStatus,
    stop_leftovers,
)

# `explorer down` ends within 15 s: so long the supervisor may take to stop everything itself, so long all of it may take.
SUPERVISOR_STOPS_S = 10.0
DOWN_S = 13.0
# What ending the database against its will takes.
FORCED_STOP_S = 1.5
# What the threads of a supervisor that was ended may take to be gone.
LOCK_PATIENCE_S = 2.0
POLL_S = 0.2


@contextlib.contextmanager
def running_platform(
    settings: Settings, console: Console, *, demo: bool, steps: tuple[Step, ...] = ()
) -> Iterator[Supervisor]:
    """Everything started and ready inside the block, everything stopped after it, however the block is left.

    `steps` are added to the table; StopRequested ends the block from any signal.

    Raises:
        AlreadyRunning, PortInUse, HomeNotUsable, PartFailed, and what the database says when it cannot start.
    """
    lock = Lock(settings.home)
    with Interrupts() as interrupts:
        lock.acquire()
        keep_private(settings.home)
        leftovers = stop_leftovers(settings.home)
        try:
            platform = platform_units(settings, demo=demo)
        except BaseException:
            lock.release()
            raise
        if leftovers:
            tell(console, f"Stopped what an earlier run had left behind: {', '.join(leftovers)}.", style="yellow")
        supervisor = Supervisor(settings.home, [*platform.units, *steps], lock=lock, facts=platform.facts)
        try:
            supervisor.start()
            display.watch_start(supervisor, console)
            supervisor.on_change = _Changes(console).tell
            yield supervisor
        finally:
            interrupts.ignore()
            display.watch_stop(supervisor, console)


def up(*, demo: bool, as_json: bool) -> int:
    """Run in the foreground until a signal ends it; exit status 0 then, 130 when it came before all was ready."""
    settings = open_settings()
    console = make_console(stderr=True)
    code = 130
    with contextlib.suppress(StopRequested), running_platform(settings, console, demo=demo) as supervisor:
        code = 0
        if as_json:
            answer_json(describe(settings))
        else:
            _tell_addresses(console, read_state(settings.home))
            tell(console, "Ctrl-C stops everything.", style="dim")
        supervisor.wait_failed()
    return code


def up_detached(*, demo: bool, as_json: bool) -> int:
    """Start a supervisor of its own session, wait until all is healthy, show the status and leave it running."""
    settings = open_settings()
    answer = settings.home / "run" / "up.out"
    log = settings.home / "logs" / "up.log"
    console = make_console(stderr=True)
    command = [sys.executable, "-m", "explorer_cli", "up", "--json", *([] if demo else ["--no-demo"])]
    with answer.open("wb") as out, log.open("ab") as err:
        supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    try:
        with Interrupts():
            _await_detached(settings, supervisor, answer, console)
    except StopRequested:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        return 130
    status(as_json=as_json)
    return 0


def down(*, as_json: bool) -> int:
    """Stop the supervisor and its parts, or what is left of them, and the embedded database; within 15 s, whatever they do."""
    settings = open_settings(writable=False)
    console = make_console(stderr=True)
    deadline = time.monotonic() + DOWN_S
    stopped: list[str] = []
    holder = holder_of(settings.home)
    hung = False
    if holder is not None:
        with _busy(console, f"Stopping process {holder.pid} and its parts ..."):
            stop_stranger(holder, SUPERVISOR_STOPS_S, group=False)
        hung = time.monotonic() > deadline - DOWN_S + SUPERVISOR_STOPS_S
        stopped.append("supervisor")
    lock = Lock(settings.home)
    lock.acquire(within_s=LOCK_PATIENCE_S if holder is not None else 0.0)
    try:
        stopped += stop_leftovers(settings.home, STRAY_GRACE_S if hung else LEFTOVERS_GRACE_S)
        if stop_database(settings, force=True, patience_s=max(0.0, deadline - time.monotonic() - FORCED_STOP_S)):
            stopped.append("database")
        forced = bool(stopped) and database_recovers(settings)
    finally:
        lock.release()
    if as_json:
        answer_json({"stopped": stopped, "database_recovers": forced})
        return 0
    tell(console, f"Stopped: {', '.join(stopped)}. All data are kept." if stopped else "Nothing was running.")
    if forced:
        tell(console, "The database was at work on something that could not be interrupted and was ended in the middle of it. ",
             "Nothing committed is lost: it recovers by itself at the next start.", style="yellow")  # fmt: skip
    return 0


def status(*, as_json: bool) -> int:
    """Show what runs; 0 only when everything is healthy."""
    settings = open_settings(writable=False)
    facts = describe(settings)
    if as_json:
        answer_json(facts)
    elif not facts["running"]:
        nothing = f"Nothing runs under {settings.home}. Start it with `explorer up`, or `explorer demo`."
        tell(make_console(stderr=False), nothing)
    else:
        rows = [
            (part["title"], part["state"], part["pid"], part["address"], _remark(part))
            for part in facts["processes"].values()
        ]
        if facts["problem"]:
            tell(make_console(stderr=False), ("All is not well: ", "bold red"), f"{facts['problem']}.")
        show_table(["Part", "State", "Process", "Address", "Note"], rows)
    return 0 if facts["healthy"] else 1


def describe(settings: Settings) -> dict[str, Any]:
    """What `status --json` says: addresses, database, processes with pid and health, whether all is well (`healthy`) and
    whether all that is needed is (`usable`), and a `problem` that the supervisor cannot tell of itself."""
    state = read_state(settings.home)
    holder = holder_of(settings.home)
    processes = {name: _present(process) for name, process in (state.get("processes") or {}).items()} if holder else {}
    problem = problem_of(settings.home) if holder else None
    if problem and "database" in processes:
        # The state is of when it could be written last.
        processes["database"] |= _database_now(settings)
    healthy = problem is None and bool(processes) and all(process["healthy"] for process in processes.values())
    usable = bool(processes) and all(process["healthy"] or process.get("optional") for process in processes.values())
    return {
        "running": holder is not None,
        "healthy": healthy,
        "usable": usable,
        "problem": problem,
        "home": str(settings.home),
        "dagster_url": state.get("dagster_url") if holder else settings.dagster_url,
        "bridge_url": state.get("bridge_url") if holder else None,
        "demo_url": state.get("demo_url") if holder else None,
        "database": state.get("database") if holder else None,
        "supervisor_pid": holder.pid if holder else None,
        "started_at": state.get("started_at") if holder else None,
        "processes": processes,
    }


def _database_now(settings: Settings) -> dict[str, Any]:
    """State of the database, asked for here."""
    try:
        well, note = database_answers(settings), ""
    except ExplorerError as error:
        well, note = False, error.message.rstrip(".")
    return (
        {"state": "ready", "healthy": True, "note": ""}
        if well
        else {"state": "unhealthy", "healthy": False, "note": note}
    )


def _present(process: dict[str, Any]) -> dict[str, Any]:
    """One part as recorded, corrected by whether its process is still there."""
    pid, started = process.get("pid"), process.pop("started", None)
    if pid and started and not ProcessIdentity(int(pid), str(started)).alive():
        return {**process, "state": "died", "healthy": False}
    return process


def _remark(part: dict[str, Any]) -> str | None:
    """What a person should know of a part beside its state."""
    restarts = part["restarts"]
    again = f"restarted {restarts} time{'s' if restarts > 1 else ''}" if restarts and part["healthy"] else ""
    return part["note"] or again or None


def _await_detached(settings: Settings, supervisor: "subprocess.Popen[bytes]", answer: Path, console: Console) -> None:
    """Until the background supervisor is ready. Raises the error that it ended with."""
    began = time.monotonic()
    with _busy(console, "Starting in the background ...") as tell:
        while supervisor.poll() is None:
            hindered = hindrance(settings.home / "run")
            if hindered:
                supervisor.send_signal(signal.SIGTERM)
                supervisor.wait()
                raise HomeNotUsable(
                    f"The state folder {settings.home} cannot be written: {hindered}.",
                    next_step="Make room there and start again, or set EXPLORER_HOME to another folder.",
                )
            state = read_state(settings.home)
            if (state.get("supervisor") or {}).get("pid") == supervisor.pid:
                if state.get("ready"):
                    return
                busy = [p["title"] for p in state["processes"].values() if p["state"] in ("starting", "restarting")]
                tell(f"Starting in the background, {time.monotonic() - began:.0f} s: {', '.join(busy)}")
            time.sleep(POLL_S)
    raise _error_of(answer, settings.home / "logs" / "up.log")


def _error_of(answer: Path, log: Path) -> Exception:
    """What a background supervisor printed before it ended, as the error it stands for."""
    try:
        body = json.loads(answer.read_text())["error"]
        error = PartFailed(body["message"], next_step=body["next_step"], details=body.get("details"))
        error.code = body["code"]
    except (ValueError, KeyError, TypeError):
        error = PartFailed(
            "The background process ended before everything was ready.",
            next_step=f"Read {log}, or run `explorer up` in the foreground to watch it.",
            details={"log": tail(log)},
        )
    return error


@contextlib.contextmanager
def _busy(console: Console, text: str) -> Iterator[Any]:
    """A spinner in a terminal, one line elsewhere; yields a function that changes the text."""
    if console.is_terminal:
        with console.status(styled(text)) as spinner:
            yield lambda text: spinner.update(styled(text))
    else:
        tell(console, text)
        yield lambda text: None


def _tell_addresses(console: Console, state: dict[str, Any]) -> None:
    database = state.get("database") or {}
    tell(console)
    tell(console, "  Dagster UI     ", (str(state.get("dagster_url")), "bold"))
    tell(console, "  MCP bridge     ", (str(state.get("bridge_url")), "bold"))
    if state.get("demo_url"):
        tell(console, "  Demo CommCare  ", (state["demo_url"], "bold"))
    tell(console, f"  Database       {database.get('host')}:{database.get('port')} ({database.get('name')})")
    tell(console)


class _Changes:
    """Tells what happens to parts after the start; once only of a part that fails again and again in the same way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, tuple[str, str]] = {}

    def tell(self, unit: UnitStatus) -> None:
        news = (unit.state, unit.note)
        if unit.state in ("ready", "unhealthy", "restarting", "failed") and self._told.get(unit.name) != news:
            self._told[unit.name] = news
            tell(self._console, *display.line(unit))
