"""The status of a HOME's platform for other processes: what runs, where, and whether it is healthy."""

from typing import Any

from explorer.core.errors import ExplorerError
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli.supervision.lock import holder_of, problem_of


def describe(settings: Settings) -> dict[str, Any]:
    """The answer of `status --json`: addresses, database, processes with pid and health; `healthy` (all parts are),
    `usable` (all required parts are), and a `problem` that the supervisor cannot report itself."""
    state = read_state(settings.home)
    holder = holder_of(settings.home)
    processes = {name: _present(process) for name, process in (state.get("processes") or {}).items()} if holder else {}
    problem = problem_of(settings.home) if holder else None
    if problem and "database" in processes:
        # The state file may be old: it shows the last state that could be written.
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
    """The present state of the database."""
    from explorer_cli.platform.database import database_answers

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
    """One part as recorded, corrected when its process is gone."""
    pid, started = process.get("pid"), process.pop("started", None)
    if pid and started and not ProcessIdentity(int(pid), str(started)).alive():
        return {**process, "state": "died", "healthy": False}
    return process
