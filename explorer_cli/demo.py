"""What `explorer demo` shows: two invented project spaces, from CommCare's API to an answer that came through the MCP bridge.

Everything goes the way it goes for an operator and an agent: tenants are added with verified credentials, runs are
launched and the question is asked by an MCP client over HTTP with a token of its own.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.syntax import Syntax

from explorer_cli.context import Store, open_settings
from explorer_cli.demo_server import USERNAME, DemoServer, save, saved
from explorer_cli.errors import AlreadyRunning, DemoMoved, PartFailed
from explorer_cli.interrupts import Interrupts, StopRequested
from explorer_cli.lifecycle import describe, running_platform
from explorer_cli.output import answer_json
from explorer_cli.progress import SyncProgress
from explorer_cli.supervisor import Step, holder_of
from explorer_cli.tenants import add_to
from explorer_cli.tools import over_http
from explorer_cli.work import show_answer, show_run, summarize
from explorer_dagster.catalog import ApiKeyCredential, Catalog, Tenant, UnknownPrincipal, normalize_server
from explorer_dagster.errors import UnknownTenant
from explorer_dagster.postgres.connections import load_connections
from explorer_dagster.settings import Settings

TENANTS = {"demo:maternal-health": "demo-maternal-health", "demo:nutrition": "demo-nutrition"}
ASKED = "demo:maternal-health"
PRINCIPAL = "demo"
QUESTION = "How many mothers are followed in each village, and how many of their pregnancies have ended?"
SQL = """\
select h.properties ->> 'village' as village,
       count(distinct m.case_id) as mothers,
       count(p.case_id) as pregnancies,
       count(p.case_id) filter (where p.closed) as ended
from cases m
join cases h on h.case_id = m.indices -> 'parent' ->> 'case_id'
left join cases p on p.indices -> 'host' ->> 'case_id' = m.case_id and p.case_type = 'pregnancy'
where m.case_type = 'mother'
group by village
order by mothers desc, village
limit 10"""


@dataclass(frozen=True)
class Shown:
    """What the demo found: one run per tenant and the answer of `query`."""

    runs: list[dict[str, Any]]
    answer: dict[str, Any]
    seconds: float


def run_demo(*, once: bool, as_json: bool) -> int:
    """Start the platform (or use the one that runs), show all of it; stay until a signal unless `once`.

    Exit status 0 after an orderly end, 130 when interrupted before the answer.
    """
    began = time.monotonic()
    settings = open_settings()
    console = Console(stderr=True, highlight=False)
    if holder_of(settings.home) is not None:
        return _on_running_platform(settings, console, began, as_json=as_json)
    _greet(console, settings)
    code = 130
    step = Step("demo-tenants", "Demo tenants", lambda: prepare_tenants(settings), needs=("database", "demo-server"))
    with (
        contextlib.suppress(StopRequested),
        running_platform(settings, console, demo=True, steps=(step,)) as supervisor,
    ):
        shown = asyncio.run(_sync_and_ask(settings, console, began))
        code = 0
        _show(settings, console, shown, as_json=as_json)
        if not once:
            console.print("Everything stays up. Ctrl-C stops it; `explorer demo` again reuses the data.", style="bold")
            supervisor.wait_failed()
    return code


def prepare_tenants(settings: Settings) -> Mapping[str, Any]:
    """Add the demo tenants that are not there yet and make a token for them, kept in HOME/demo.json.

    Raises:
        DemoMoved: they are there with another address of the demo server.
    """
    server = DemoServer.known(settings)
    with Catalog.open(settings) as catalog:
        store = Store(settings, catalog, load_connections(settings))
        tenants = [_tenant(store, server, key, domain) for key, domain in TENANTS.items()]
        principal = catalog.principals.verify(str(saved(settings).get("token", "")))
        if principal is None or set(principal.grants) != set(TENANTS):
            with contextlib.suppress(UnknownPrincipal):
                catalog.principals.revoke(PRINCIPAL)
            save(settings, token=catalog.principals.create_token(PRINCIPAL, tenants))
    return {}


def client_configuration(settings: Settings, bridge_url: str, token: str) -> dict[str, Any]:
    """What an MCP host needs: the same bridge over HTTP, and a private one over stdio."""
    return {
        "mcpServers": {
            "data-explorer": {"type": "http", "url": bridge_url, "headers": {"Authorization": f"Bearer {token}"}},
            "data-explorer-stdio": {
                "command": sys.executable,
                "args": ["-m", "mcp_bridge"],
                "env": {"EXPLORER_HOME": str(settings.home), "EXPLORER_TOKEN": token},
            },
        }
    }


def _tenant(store: Store, server: DemoServer, key: str, domain: str) -> Tenant:
    try:
        tenant = store.catalog.tenants.get(key)
    except UnknownTenant:
        return add_to(
            store, key, server=server.url, domain=domain, credential=ApiKeyCredential(USERNAME, server.api_key)
        )
    if tenant.server != normalize_server(server.url):
        raise DemoMoved(
            f"The demo tenants were made for {tenant.server}, but the demo server is now at {server.url}.",
            next_step="Leave EXPLORER_DEMO_PORT as it was, or use a fresh EXPLORER_HOME.",
        )
    return tenant


def _on_running_platform(settings: Settings, console: Console, began: float, *, as_json: bool) -> int:
    """`explorer up` runs already: use it and leave it running."""
    state = describe(settings)
    if not state["demo_url"] or not state["healthy"]:
        raise AlreadyRunning(
            "The platform runs already, "
            + ("without the demo server." if not state["demo_url"] else "but not all of it is healthy."),
            next_step="Stop it with `explorer down`, then run `explorer demo`.",
            details={"pid": state["supervisor_pid"]},
        )
    console.print(f"Using the platform that runs already (process {state['supervisor_pid']}).")
    try:
        with Interrupts():
            prepare_tenants(settings)
            shown = asyncio.run(_sync_and_ask(settings, console, began))
    except StopRequested:
        return 130
    _show(settings, console, shown, as_json=as_json)
    return 0


async def _sync_and_ask(settings: Settings, console: Console, began: float) -> Shown:
    """Both tenants at the same time, then one question."""
    url, token = str(describe(settings)["bridge_url"]), str(saved(settings)["token"])
    console.print("\nSyncing both project spaces through the bridge's [bold]run_materialization[/] ...")
    with SyncProgress(list(TENANTS), console=console) as progress:
        runs = await asyncio.gather(*(_sync(url, token, key, progress) for key in TENANTS))
    for run in runs:
        if run["state"] != "SUCCESS":
            show_run(run)
            raise PartFailed(
                f"The run of {run['tenant']} ended as {run['state']}.",
                next_step=f"Look at {run['run_url']}, or at HOME/logs/warm-pool.log.",
            )
    async with over_http(url, token) as tools:
        answer = await tools.call("query", {"tenant": ASKED, "sql": SQL})
    return Shown(runs, answer, time.monotonic() - began)


async def _sync(url: str, token: str, key: str, progress: SyncProgress) -> dict[str, Any]:
    async with over_http(url, token) as tools:
        run = await tools.sync(key, full=False, wait=True, on_progress=progress.listener(key))
        progress.finish(key, run["status"])
        done = run["status"] == "SUCCESS"
        return summarize(key, run, await tools.row_counts(key) if done else {})


def _show(settings: Settings, console: Console, shown: Shown, *, as_json: bool) -> None:
    state = describe(settings)
    configuration = client_configuration(settings, state["bridge_url"], str(saved(settings)["token"]))
    if as_json:
        answer_json(
            {
                "runs": shown.runs,
                "question": QUESTION,
                "sql": SQL,
                "answer": shown.answer["data"],
                "seconds": round(shown.seconds, 1),
                "dagster_url": state["dagster_url"],
                "bridge_url": state["bridge_url"],
                "demo_url": state["demo_url"],
                "client_configuration": configuration,
            }
        )
        return
    for run in shown.runs:
        rows = sum(count or 0 for count in run["tables"].values())
        console.print(f"  {run['tenant']}: {len(run['tables'])} tables, {rows:,} rows  [dim]{run['run_url']}[/]")
    console.print(f"\n[bold]{QUESTION}[/]  Asked by an MCP client through the tool [bold]query[/]:\n")
    console.print(Syntax(SQL, "sql", theme="ansi_dark", background_color="default"))
    console.print()
    show_answer(shown.answer["data"])
    console.print(
        f"[dim]Answered {shown.seconds:.0f} s after the start, {shown.answer['timing_ms']} ms for the query itself.[/]\n"
    )
    console.print(f"  Dagster UI  [bold]{state['dagster_url']}[/]")
    console.print(f"  MCP bridge  [bold]{state['bridge_url']}[/]\n")
    console.print("Configuration for an MCP client (take either entry):")
    sys.stdout.write(json.dumps(configuration, indent=2) + "\n")
    sys.stdout.flush()


def _greet(console: Console, settings: Settings) -> None:
    console.print("[bold]Data Explorer[/]: invented CommCare project spaces, from the API to an agent's answer.")
    console.print(f"State and logs: {settings.home}\n", style="dim", soft_wrap=True)
