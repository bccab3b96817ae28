"""`explorer demo`: two invented project spaces, from CommCare's API to an answer through the MCP bridge.

It does what an operator and an agent do: it adds tenants with verified credentials, and an MCP client with a token of its
own launches the runs and asks the question over HTTP.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.syntax import Syntax

from explorer.catalog import ApiKeyCredential, Catalog, Tenant, UnknownPrincipal
from explorer.core.errors import UnknownTenant
from explorer.core.settings import Settings
from explorer.postgres.connections import load_connections
from explorer.providers import provider_named
from explorer_cli.errors import AlreadyRunning, DemoMoved, PartFailed
from explorer_cli.operations.bridge_client import over_http
from explorer_cli.operations.runs import show_answer, show_run, summarize
from explorer_cli.operations.tenants.registering import add_to
from explorer_cli.output.progress import SyncProgress
from explorer_cli.output.terminal import answer_json, make_console, tell
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.demo_server import USERNAME, DemoServer, save, saved
from explorer_cli.platform.running import running_platform
from explorer_cli.platform.status import describe
from explorer_cli.platform.store import Store
from explorer_cli.supervision.interrupts import Interrupts, StopRequested
from explorer_cli.supervision.lock import holder_of
from explorer_cli.supervision.units import Step

TENANTS = {"demo:maternal-health": "demo-maternal-health", "demo:nutrition": "demo-nutrition"}
PROVIDER = "commcare"
# Some of the demo server's people, and what they get.
PEOPLE = {
    "demo@example.org": "administers both project spaces: everything",
    "data.officer@example.org": "edits data in both: asks, and starts syncs",
    "reader@example.org": "reads reports of the maternal programme: asks there",
    "supervisor@example.org": "sees one place only: gets nothing, and is told why",
}
PASSWORD = "demo"  # noqa: S105
QUERIED_TENANT = "demo:maternal-health"
PRINCIPAL = "demo"
QUESTION = "How many mothers are followed in each village, and how many of their pregnancies have ended?"
SQL = """\
select l.name as village, b.name as block,
       count(distinct m.case_id) as mothers,
       count(p.case_id) as pregnancies,
       count(p.case_id) filter (where p.closed) as ended
from case_mother m
join case_household h on h.case_id = m.parent_case_id
join locations l on l.site_code = h.village
join locations b on b.location_id = l.parent_location_id
left join case_pregnancy p on p.host_case_id = m.case_id
group by l.location_id, l.name, b.name
order by mothers desc, village"""


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo: one run per tenant and the answer of `query`."""

    runs: list[dict[str, Any]]
    answer: dict[str, Any]
    seconds: float


def run_demo(*, once: bool, as_json: bool) -> int:
    """Start the platform (or use the running one) and show the demo; wait for a signal unless `once`.

    Exit status 0 after an orderly end, 130 when interrupted before the answer.
    """
    began = time.monotonic()
    settings = open_settings()
    console = make_console(stderr=True)
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
            tell(console, "Everything stays up. Ctrl-C stops it; `explorer demo` again reuses the data.", style="bold")
            supervisor.wait_failed()
    return code


def prepare_tenants(settings: Settings) -> Mapping[str, Any]:
    """Add missing demo tenants and make a token for them, stored in HOME/demo.json.

    Raises:
        DemoMoved: they are stored with another address of the demo server.
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
    """The configuration for an MCP host: the same bridge over HTTP, and a private one over stdio."""
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
    provider = provider_named(PROVIDER)
    try:
        tenant = store.catalog.tenants.get(key)
    except UnknownTenant:
        return add_to(
            store,
            provider,
            key,
            server=server.url,
            external_id=domain,
            credential=ApiKeyCredential(USERNAME, server.api_key),
        )
    if tenant.server != provider.normalize_server(server.url):
        raise DemoMoved(
            f"The demo tenants were made for {tenant.server}, but the demo server is now at {server.url}.",
            next_step=f"Set EXPLORER_DEMO_PORT={httpx.URL(tenant.server).port}, and stop whatever else uses that port;"
            " or set EXPLORER_HOME to a fresh folder.",
        )
    return tenant


def _on_running_platform(settings: Settings, console: Console, began: float, *, as_json: bool) -> int:
    """Use the platform that `explorer up` started, and leave it running."""
    state = describe(settings)
    if not state["demo_url"] or not state["usable"]:
        raise AlreadyRunning(
            "The platform runs already, "
            + ("without the demo server." if not state["demo_url"] else "but not all of it is healthy."),
            next_step="Stop it with `explorer down`, then run `explorer demo`.",
            details={"pid": state["supervisor_pid"]},
        )
    tell(console, f"Using the platform that runs already (process {state['supervisor_pid']}).")
    try:
        with Interrupts():
            prepare_tenants(settings)
            shown = asyncio.run(_sync_and_ask(settings, console, began))
    except StopRequested:
        return 130
    _show(settings, console, shown, as_json=as_json)
    return 0


async def _sync_and_ask(settings: Settings, console: Console, began: float) -> DemoResult:
    """Sync both tenants at the same time, then ask one question."""
    url, token = str(describe(settings)["bridge_url"]), str(saved(settings)["token"])
    tell(console, "\nSyncing both project spaces through the bridge's ", ("run_materialization", "bold"), " ...")
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
        answer = await tools.call("query", {"tenant": QUERIED_TENANT, "sql": SQL})
    return DemoResult(runs, answer, time.monotonic() - began)


async def _sync(url: str, token: str, key: str, progress: SyncProgress) -> dict[str, Any]:
    async with over_http(url, token) as tools:
        run = await tools.sync(key, full=False, wait=True, on_progress=progress.listener(key))
        progress.finish(key, run["status"])
        done = run["status"] == "SUCCESS"
        return summarize(key, run, await tools.tables(key) if done else [])


def _show(settings: Settings, console: Console, shown: DemoResult, *, as_json: bool) -> None:
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
        found = f"  {run['tenant']}: {len(run['tables'])} tables, {rows:,} rows"
        tell(console, found, (f"  {run['run_url']}", "dim"))
    tell(console, "\n", (QUESTION, "bold"), "  Asked by an MCP client through the tool ", ("query", "bold"), ":\n")
    console.print(Syntax("", "sql", theme="ansi_dark", background_color="default").highlight(SQL), soft_wrap=True)
    show_answer(shown.answer["data"])
    took = f"Answered {shown.seconds:.0f} s after the start, {shown.answer['timing_ms']} ms for the query itself.\n"
    tell(console, took, style="dim")
    tell(console, "  Dagster UI  ", (state["dagster_url"], "bold"), ("  opened by `explorer ui`", "dim"))
    tell(console, "  MCP bridge  ", (state["bridge_url"], "bold"), "\n")
    if DemoServer.lets_people_in(settings):
        tell(console, "Add that address to an MCP client, sign in in the browser as one of the demo's people, and ask:")
        for username, what in PEOPLE.items():
            tell(console, "  ", (username, "bold"), f"  {what}")
        tell(console, f"Their password is {PASSWORD!r}.\n")
    tell(console, "Or give the client a token by this configuration (take either entry):")
    answer_json(configuration)


def _greet(console: Console, settings: Settings) -> None:
    tell(console, ("Data Explorer", "bold"), ": invented CommCare project spaces, from the API to an agent's answer.")
    tell(console, f"State and logs: {settings.home}\n", style="dim")
