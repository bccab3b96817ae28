"""Checks of stored data and of the servers that it names: pipelines, database, catalog, keys, pauses, credentials."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

from explorer.catalog import Catalog, Tenant
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.postgres.connections import is_external, load_connections
from explorer.postgres.embedded import embedded_from
from explorer.postgres.hardening import check_hardening
from explorer.providers import faults_of, provider_named
from explorer.registry import load_pipelines
from explorer_cli.operations.doctor.findings import Finding, Installation, not_running, ok, wrong
from explorer_cli.platform.database import database_answers, database_facts


def pipelines(installation: Installation) -> list[Finding]:
    found = load_pipelines(installation.settings.project_dir / "pipelines", faults_of)
    return ok("pipelines", ", ".join(sorted(found)) or "none")


def database(installation: Installation) -> list[Finding]:
    if not _database_there(installation.settings):
        return not_running("database")
    database_answers(installation.settings)
    facts = database_facts(installation.settings)
    return ok("database", f"{facts['name']} at {facts['host']}:{facts['port']}")


def hardening(installation: Installation) -> list[Finding]:
    if not _database_there(installation.settings):
        return not_running("hardening")
    with closing(load_connections(installation.settings).admin.connect(autocommit=True)) as connection:
        report = check_hardening(connection)
    if report.complete:
        return ok("hardening", report.summary())
    return wrong("hardening", report.summary(), "Run `explorer db upgrade` with a superuser's EXPLORER_DATABASE_URL.")


def catalog(installation: Installation) -> list[Finding]:
    if not _database_there(installation.settings):
        return not_running("catalog")
    with Catalog.open(installation.settings) as opened:
        return ok("catalog", f"current, {len(opened.tenants.list())} tenants")


def keyring(installation: Installation) -> list[Finding]:
    if not _database_there(installation.settings):
        return not_running("keyring")
    with Catalog.open(installation.settings) as opened:
        for tenant in opened.tenants.list():
            opened.credentials.load(tenant)
            opened.schemas.ro_login(tenant)
    return ok("keyring", "fits everything stored")


def request_limits(installation: Installation) -> list[Finding]:
    if not _database_there(installation.settings):
        return not_running("request limits")
    findings = []
    service = load_connections(installation.settings).service
    with Catalog.open(installation.settings) as opened:
        for tenant in opened.tenants.list():
            with closing(RequestSlots(service, tenant.server, tenant.external_id)) as slots:
                paused_s = slots.paused_s()
            if paused_s:
                findings.append(_paused(tenant, paused_s))
    return findings or ok("request limits", "no server has asked for a pause")


def credentials(installation: Installation) -> list[Finding]:
    if not installation.online:
        way = "`explorer doctor --online` tries them at the tenants' servers."
        return [Finding("credentials", "skipped", "not tried", way)]
    if not _database_there(installation.settings):
        return not_running("credentials")
    with Catalog.open(installation.settings) as opened:
        findings = [_credential(installation.settings, opened, tenant) for tenant in opened.tenants.list()]
    return findings or ok("credentials", "no tenants yet")


def _paused(tenant: Tenant, paused_s: float) -> Finding:
    until = datetime.now(UTC) + timedelta(seconds=paused_s)
    return Finding(
        "request limits",
        "warning",
        f"{tenant.key}: {tenant.server} has asked for no requests to {tenant.external_id}; none are sent"
        f" until {until:%Y-%m-%d %H:%M:%S} UTC.",
        f"Wait, or run `explorer tenants unblock {tenant.key}` when the limit was raised.",
    )


def _credential(settings: Settings, opened: Catalog, tenant: Tenant) -> Finding:
    name = f"credentials of {tenant.key}"
    try:
        access = provider_named(tenant.provider).verify_access(
            tenant.server, tenant.external_id, opened.credentials.load(tenant), settings=settings,
            refresh=lambda stale, renew: opened.credentials.refresh(tenant, stale, renew),
        )  # fmt: skip
    except ExplorerError as error:
        return Finding(name, "wrong", error.message, error.next_step)
    part = "" if access.sees_all else "; the server does not tell whether their role sees all of it"
    return Finding(name, "ok", f"{access.username} may read {access.title}{part}")


def _database_there(settings: Settings) -> bool:
    return is_external(settings) or embedded_from(settings).is_running()
