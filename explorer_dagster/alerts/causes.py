"""What can be wrong with an installation? One function per kind, each of which reads the catalog, the database or the disk."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

from explorer.catalog import Catalog
from explorer.catalog.audit.verification import verify
from explorer.catalog.coordination.alerts import Alert
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections
from explorer.postgres.hardening import check_hardening
from explorer.registry import Pipeline

# Failures that no further try mends: somebody has to act.
_CREDENTIALS = ("credentials_invalid", "credential_missing", "credential_invalid")
_EXPIRE_SOON = timedelta(days=7)
_FREE_SHARE = 0.1
_FREE_BYTES = 1024**3


class Causes:
    """What is wrong with this installation now."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        connections: Connections,
        pipelines: list[Pipeline],
        scheduled: Callable[[Pipeline], bool],
    ) -> None:
        """`scheduled`: whether a pipeline's schedule runs; where none does, no table is late."""
        self._settings, self._catalog, self._connections = settings, catalog, connections
        self._pipelines, self._scheduled = pipelines, scheduled
        self._now = datetime.now(UTC)
        self._tenants = {tenant.id: tenant for tenant in catalog.tenants.list()}

    def failures(self) -> Iterator[Alert]:
        """Tenants whose last runs failed. A refused credential is critical."""
        for pipeline in self._pipelines:
            for id_, sync in self._catalog.syncs.all(pipeline.name).items():
                tenant, failure = self._tenants.get(id_), sync.failure
                if tenant is None or failure is None:
                    continue
                code = failure["code"]
                refused = code.endswith(_CREDENTIALS)
                step = (
                    "Give the tenant a good credential (`explorer tenants add`, with the same key)." if refused else ""
                )
                yield Alert(
                    f"failure:{tenant.key}:{pipeline.name}",
                    "failure",
                    "critical" if refused else "warning",
                    code,
                    f"{tenant.key}: {pipeline.name} fails: {failure['message']}",
                    step or "The run's failure in Dagster says what to do; old tables are served meanwhile.",
                )

    def staleness(self) -> Iterator[Alert]:
        """Tenants whose server was not looked at for longer than their target or the setting says, though a schedule runs. Not
        those whose schemas were dropped since nobody asks them."""
        usual = timedelta(hours=self._settings.alert_stale_hours)
        unused = {id_ for id_, own in self._catalog.schemas.of(self._tenants.keys()).items() if own.is_gone_for_now}
        for pipeline in filter(self._scheduled, self._pipelines):
            for id_, sync in self._catalog.syncs.all(pipeline.name).items():
                tenant, target_s = self._tenants.get(id_), sync.target_s(pipeline.schedule)
                limit = timedelta(seconds=target_s) if target_s is not None else usual
                if tenant is None or id_ in unused or sync.is_stopped or sync.looked_at is None:
                    continue
                if self._now - sync.looked_at <= limit:
                    continue
                yield Alert(
                    f"stale:{tenant.key}:{pipeline.name}",
                    "staleness",
                    "warning",
                    "stale",
                    f"{tenant.key}: tables of {pipeline.name} are of {sync.looked_at:%Y-%m-%d %H:%M} UTC, and a schedule runs.",
                    "See docs/runbooks.md, Tables are old.",
                )

    def quotas(self) -> Iterator[Alert]:
        """Tenants that load nothing more today."""
        for id_, use in self._catalog.quotas.exhausted(self._tenants.keys()).items():
            tenant, at = self._tenants[id_], use.again_at
            yield Alert(
                f"quota:{tenant.key}",
                "quota",
                "warning",
                f"quota_exhausted:{use.exhausted}",
                f"{tenant.key}: the {use.exhausted} of its day are used up until {at:%Y-%m-%d %H:%M} UTC.",
                f"`explorer tenants quota {tenant.key}` shows and raises them.",
            )

    def tokens(self) -> Iterator[Alert]:
        """Tokens of programs that expire within a week."""
        for principal in self._catalog.principals.list():
            ends = principal.expires_at
            if ends is None or not self._now < ends < self._now + _EXPIRE_SOON:
                continue
            yield Alert(
                f"token:{principal.name}",
                "credentials",
                "warning",
                ends.isoformat(),
                f"The token of {principal.name} expires on {ends:%Y-%m-%d %H:%M} UTC.",
                f"Make another one with `explorer tokens create`, then revoke it: `explorer tokens revoke {principal.name}`.",
            )

    def disk(self) -> Iterator[Alert]:
        """The file system of HOME."""
        usage = shutil.disk_usage(self._settings.home)
        if usage.free >= _FREE_BYTES and usage.free >= _FREE_SHARE * usage.total:
            return
        yield Alert(
            "disk",
            "disk",
            "critical" if usage.free < _FREE_BYTES else "warning",
            "disk_almost_full",
            f"Only {usage.free / 1024**3:.1f} GB of {usage.total / 1024**3:.0f} GB are free where HOME is.",
            "See docs/runbooks.md, The disk is full.",
        )

    def hardening(self) -> Iterator[Alert]:
        """Whether tenants' logins can read the system's catalogs."""
        with closing(self._connections.service.connect(autocommit=True)) as connection:
            report = check_hardening(connection)
        if not report.complete:
            step = "Run `explorer db upgrade` with a superuser's EXPLORER_DATABASE_URL (docs/operations.md, External)."
            yield Alert("hardening", "hardening", "warning", "hardening_degraded", report.summary(), step)

    def audit(self) -> Iterator[Alert]:
        """Whether the chain of the audit trail is whole. Follows all of it."""
        fault = verify(self._catalog.audit).fault
        if fault is not None:
            yield Alert(
                "audit",
                "audit",
                "critical",
                f"audit_broken:{fault.id}",
                f"Entry {fault.id} of the audit trail: {fault.reason}.",
                "Run `explorer audit verify`; docs/security.md says who can have done it.",
            )
