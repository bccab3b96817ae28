"""`up`, `down` and `status`: one supervisor per HOME, in the foreground or detached, and its status for other processes."""

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

from explorer.core.home import HomeNotUsable
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli.errors import PartFailed
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, make_console, styled, tell
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.status import describe
from explorer_cli.supervision.home import write_problem
from explorer_cli.supervision.interrupts import Interrupts, StopRequested
from explorer_cli.supervision.leftovers import LEFTOVERS_GRACE_S, STRAY_GRACE_S, stop_leftovers
from explorer_cli.supervision.lock import Lock, holder_of
from explorer_cli.supervision.logs import tail
from explorer_cli.supervision.processes import stop_recorded
from explorer_cli.supervision.units import Step

# `explorer down` ends within 15 s: the time for the supervisor to stop everything itself, and the time for the whole command.
SUPERVISOR_STOPS_S = 10.0
DOWN_S = 13.0
# The time that a forced stop of the database takes.
FORCED_STOP_S = 1.5
# The threads of a killed supervisor may need this long to end.
LOCK_TIMEOUT_S = 2.0
POLL_S = 0.2


def up(*, demo: bool, as_json: bool) -> int:
    """Run in the foreground until a signal; exit status 0, or 130 when the signal came before everything was ready."""
    # Here, since what knows all parts takes half a second to import, for which `status` and `down` need not wait.
    from explorer_cli.platform.running import running_platform

    settings = open_settings()
    console = make_console(stderr=True)
    code = 130
    steps = _steps(settings)
    with contextlib.suppress(StopRequested), running_platform(settings, console, demo=demo, steps=steps) as supervisor:
        code = 0
        if as_json:
            answer_json(describe(settings))
        else:
            _show_addresses(console, read_state(settings.home))
            tell(console, "Ctrl-C stops everything.", style="dim")
        supervisor.wait_failed()
    return code


def _steps(settings: Settings) -> tuple[Step, ...]:
    """What `up` does beside starting the parts."""
    if not settings.audit_retention_days:
        return ()
    from explorer_cli.operations.audit import Sealing

    sealing = Sealing(settings)
    return (Step("audit", "Audit trail", sealing.begin, sealing.end, needs=("database",)),)


def up_detached(*, demo: bool, as_json: bool) -> int:
    """Start a supervisor in its own session, wait until everything is healthy, show the status and leave it running."""
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
    """Stop the supervisor and its parts (or leftovers of them) and the embedded database; always ends within 15 s."""
    from explorer_cli.platform.database import database_recovers, stop_database

    settings = open_settings(writable=False)
    console = make_console(stderr=True)
    deadline = time.monotonic() + DOWN_S
    stopped: list[str] = []
    holder = holder_of(settings.home)
    hung = False
    if holder is not None:
        with _busy(console, f"Stopping process {holder.pid} and its parts ..."):
            stop_recorded(holder, SUPERVISOR_STOPS_S, group=False)
        hung = time.monotonic() > deadline - DOWN_S + SUPERVISOR_STOPS_S
        stopped.append("supervisor")
    lock = Lock(settings.home)
    lock.acquire(within_s=LOCK_TIMEOUT_S if holder is not None else 0.0)
    try:
        stopped += stop_leftovers(settings.home, STRAY_GRACE_S if hung else LEFTOVERS_GRACE_S)
        if stop_database(settings, force=True, timeout_s=max(0.0, deadline - time.monotonic() - FORCED_STOP_S)):
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
    """Show what runs; returns 0 only when everything is healthy."""
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


def _remark(part: dict[str, Any]) -> str | None:
    """A remark for people beside the part's state."""
    restarts = part["restarts"]
    again = f"restarted {restarts} time{'s' if restarts > 1 else ''}" if restarts and part["healthy"] else ""
    return part["note"] or again or None


def _await_detached(settings: Settings, supervisor: "subprocess.Popen[bytes]", answer: Path, console: Console) -> None:
    """Wait until the background supervisor is ready. Raises the error that it ended with."""
    began = time.monotonic()
    with _busy(console, "Starting in the background ...") as tell:
        while supervisor.poll() is None:
            hindered = write_problem(settings.home / "run")
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
    """The error that a background supervisor printed before it ended."""
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


def _show_addresses(console: Console, state: dict[str, Any]) -> None:
    database = state.get("database") or {}
    tell(console)
    tell(console, "  Dagster UI     ", (str(state.get("dagster_url")), "bold"), ("  opened by `explorer ui`", "dim"))
    tell(console, "  MCP bridge     ", (str(state.get("bridge_url")), "bold"))
    if state.get("demo_url"):
        tell(console, "  Demo CommCare  ", (state["demo_url"], "bold"))
    tell(console, f"  Database       {database.get('host')}:{database.get('port')} ({database.get('name')})")
    tell(console)
