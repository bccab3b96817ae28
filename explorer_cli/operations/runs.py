"""`explorer sync`, `explorer query` and `explorer runs`: the operator calls the same tools of the bridge as an agent."""

import asyncio
from collections.abc import Sequence
from typing import Any

from explorer.core.settings import Settings
from explorer_cli.operations.bridge_client import FINISHED, as_operator
from explorer_cli.output.progress import SyncProgress
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings


def run_sync(key: str, *, full: bool, wait: bool, as_json: bool) -> int:
    """Launch a run; `wait` follows it. Returns 1 when the run ended without success."""
    settings = open_settings()
    run = asyncio.run(_sync(settings, key, full=full, wait=wait))
    if as_json:
        answer_json(run)
    elif run["state"] in FINISHED:
        show_run(run)
    else:
        say(f"Run {run['run_id']} is {run['state'].lower()}: {run['run_url']}")
        say(f"`explorer sync {key} --wait` joins it.")
    return 1 if run["state"] in ("FAILURE", "CANCELED") else 0


def run_query(key: str, sql: str, *, limit: int | None, explain: bool, as_json: bool) -> int:
    """Call `query` once; shows the envelope's data with --json, else a table, or with `explain` the plan in words."""
    settings = open_settings()
    arguments = {"tenant": key, "sql": sql, "limit": limit, "response_format": "detailed", "explain": explain}
    envelope = asyncio.run(_call(settings, "query", arguments))
    if as_json:
        answer_json(envelope)
        return 0
    (show_plan if explain else show_answer)(envelope["data"])
    for warning in envelope.get("warnings") or []:
        say(("Note", "yellow"), f"  {warning}")
    return 0


def compare_runs(key: str, before: str | None, after: str | None, *, as_json: bool) -> int:
    """Call `compare_runs` once; shows the envelope's data with --json, else a line for each step and a table of tables."""
    arguments = {"tenant": key, "run_id": after, "before_run_id": before, "response_format": "detailed"}
    envelope = asyncio.run(_call(open_settings(), "compare_runs", arguments))
    if as_json:
        answer_json(envelope)
        return 0
    show_comparison(envelope["data"])
    for warning in envelope.get("warnings") or []:
        say(("Note", "yellow"), f"  {warning}")
    return 0


def show_comparison(data: dict[str, Any]) -> None:
    """Show what `compare_runs` tells."""
    before, after = data.get("before"), data["after"]
    say(
        f"Run {after['run_id']} of {after['at']}, compared with",
        f" {before['run_id']} of {before['at']}" if before else " nothing",
    )
    say(f"First difference: {data['first_difference']}")
    for step, of in data["steps"].items():
        say(
            f"  {step}: {of.get('before_s', '-')} s before, {of.get('after_s', '-')} s now",
            f"  {of.get('outcome', '')}",
        )
    show_table(
        ("Table", "Rows", "New", "Changed", "Gone", "Else"), map(_table_row, data["tables"]), empty="No table changed."
    )


def _table_row(table: dict[str, Any]) -> list[Any]:
    """A table's cells; `Else`: its columns, types and checks that are others now."""
    rows = f"{table.get('rows_before', '-')} -> {table['rows']}" if "rows" in table else ""
    told = [f"+{name}" for name in table.get("columns_added", ())]
    told += [f"-{name}" for name in table.get("columns_removed", ())]
    told += [f"{name}: {change}" for part in ("types", "checks") for name, change in table.get(part, {}).items()]
    return [table["table"], rows, *(table.get(kind) for kind in ("new", "changed", "gone")), ", ".join(told)]


def show_plan(data: dict[str, Any]) -> None:
    """Show what `query` tells with `explain`: the tables read on stdout, the rest as remarks."""
    show_table(("Table", "Rows", "How"), [[each[name] for name in ("table", "rows", "how")] for each in data["reads"]])
    say(data["in_words"])
    for step in data["steps"]:
        say(f"  {step}")
    for hint in data["hints"]:
        say(("Hint", "yellow"), f"  {hint}")


def show_answer(data: dict[str, Any]) -> None:
    """Show the rows of `query` as a table on stdout."""
    names: Sequence[str] = [column["name"] for column in data["columns"]]
    show_table(names, data["rows"], empty="No rows.")


def summarize(key: str, run: dict[str, Any], tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A run as `sync --json` shows it. `tables`: from `list_tables` after the run; empty unless the run succeeded."""
    return {
        "tenant": key,
        "run_id": run["run_id"],
        "state": run["status"],
        "run_url": run.get("run_url"),
        "duration_s": run.get("duration_s"),
        "tables": {table["name"]: table.get("row_count") for table in tables},
        "type_changes": [f"{table['name']}.{change}" for table in tables for change in table.get("type_changes") or ()],
        "errors": run.get("errors") or [],
        "failing_checks": run.get("failing_checks") or [],
    }


def show_run(run: dict[str, Any]) -> None:
    """Show how a run ended."""
    colour = "green" if run["state"] == "SUCCESS" else "red"
    say((run["state"], colour), f" {run['tenant']} after {run['duration_s']} s  {run['run_url']}")
    for error in run["errors"]:
        say((str(error["step"]), "red"), f"  {error['cause']}")
    for check in run["failing_checks"]:
        say((f"Check {check['check']} of {check['asset']} failed", "yellow"))
    for change in run["type_changes"]:
        say(("Type changed", "yellow"), f"  {change}")
    if run["tables"]:
        show_table(("Table", "Rows"), sorted(run["tables"].items()))


async def _sync(settings: Settings, key: str, *, full: bool, wait: bool) -> dict[str, Any]:
    async with as_operator(settings) as tools:
        with SyncProgress([key], shown=wait) as progress:
            run = await tools.sync(key, full=full, wait=wait, on_progress=progress.listener(key) if wait else None)
            progress.finish(key, run["status"])
        done = run["status"] == "SUCCESS"
        return summarize(key, run, await tools.tables(key) if done else [])


async def _call(settings: Settings, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    async with as_operator(settings) as tools:
        return await tools.call(tool, arguments)
