"""What does `/metrics` of the Dagster UI tell? Queue, runs, daemons, how fresh tenants are, and the disk of HOME.

Read when asked, from Dagster's storage and the catalog; what has ended is counted from one reading to the next. No label names a
tenant.
"""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock

import dagster as dg
from anyio import to_thread
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from explorer.catalog.coordination.alerts import AlertStore
from explorer.catalog.coordination.syncs import SyncStore
from explorer.catalog.storage.database import Database
from explorer.catalog.tenants.tenant import TenantStore
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.postgres.connections import load_connections
from explorer.telemetry.metrics_token import may_read_metrics
from explorer_dagster.runs import UNFINISHED

_log = logging.getLogger(__name__)
_HOW_TO_READ = (
    "Metrics need their own token: send Authorization: Bearer <token> with EXPLORER_METRICS_TOKEN, or the content of "
    "HOME/metrics.token, which `explorer up` makes."
)
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# An event of a run may be stored after a later one of another run.
_OVERLAP = timedelta(seconds=60)
_PAGE = 1000
_AGES_S = tuple(hours * 3600 for hours in (1, 2, 4, 8, 12, 26, 50, 192))
_RUN_S = (2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


class MetricsPage:
    """An ASGI app: the figures for whoever sends the token of metrics."""

    def __init__(self, settings: Settings, text: Callable[[], bytes]) -> None:
        self._settings, self._text = settings, text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await to_thread.run_sync(self._answer, Request(scope))
        await answer(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        """Blocks on the database and reads the token's file."""
        sent = {"cache-control": "no-store", "connection": "close"}
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Metrics are read by GET.", 405, headers={**sent, "allow": "GET, HEAD"})
        if not may_read_metrics(self._settings, request.headers.get("authorization", "")):
            challenge = {"www-authenticate": 'Bearer realm="Data Explorer metrics"'}
            return PlainTextResponse(_HOW_TO_READ, 401, headers={**sent, **challenge})
        try:
            return Response(self._text(), media_type=CONTENT_TYPE_LATEST, headers={"cache-control": "no-store"})
        except (ExplorerError, SQLAlchemyError) as error:
            _log.warning("There are no metrics: %s", error)
            return PlainTextResponse("The database does not answer.", 503, headers=sent)


@dataclass(frozen=True)
class Standing:
    """What the catalog knows. `looked_at`: when each active tenant's server was last looked at, as seconds of the epoch; None for
    never. `alerts`: how many are open, by cause and severity."""

    looked_at: Mapping[str, float | None]
    alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)


class CatalogStanding:
    """Reads it as the catalog's service login."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self) -> Standing:
        """Raises: DatabaseNotReady, CatalogUnavailable."""
        looked_at = SyncStore(self._database).looked_at()
        tenants = TenantStore(self._database).list()
        alerts: Counter[tuple[str, str]] = Counter()
        alerts.update((alert.cause, alert.severity) for alert in AlertStore(self._database).open())
        return Standing(
            {each.key: looked_at[each.id].timestamp() if each.id in looked_at else None for each in tenants}, alerts
        )

    @cached_property
    def _database(self) -> Database:
        """Opened at the first reading: the UI can be read without the catalog."""
        return Database(load_connections(self._settings).service)


class DagsterFigures(Collector):
    """A collector of Prometheus' client. `standing` reads the catalog."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        settings: Settings,
        standing: Callable[[], Standing],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._instance, self._settings, self._standing, self._now = instance, settings, standing, now
        self._registry = CollectorRegistry(auto_describe=False)
        self._run_s = Histogram(
            "explorer_run_seconds", "Time that a run worked.", ("status",), registry=self._registry, buckets=_RUN_S
        )
        self._queued_s = Histogram(
            "explorer_run_queue_seconds",
            "Time that a run waited in the queue.",
            registry=self._registry,
            buckets=_RUN_S,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self._ended: Counter[str] = Counter()
        self._since_s = now()
        self._counted: set[str] = set()
        self._read_until = datetime.fromtimestamp(self._since_s, UTC)
        # Two readers at once would count a run twice.
        self._lock = Lock()

    def text(self) -> bytes:
        """All figures. Blocks on the database."""
        with self._lock:
            self._look_at_ended_runs()
            return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield self._runs()
        ended = CounterMetricFamily("explorer_runs_ended", "Runs that ended, by status.", labels=["status"])
        for status in ENDED:
            ended.add_metric([status.value.lower()], self._ended[status.value])
        yield ended
        yield self._oldest_queued()
        yield self._daemons()
        standing = self._standing()
        yield from self._freshness(standing)
        yield self._alerts(standing)
        yield from self._disk()

    def _runs(self) -> Metric:
        runs = GaugeMetricFamily("explorer_runs", "Runs that have not ended, by status.", labels=["status"])
        for status in UNFINISHED:
            count = self._instance.get_runs_count(dg.RunsFilter(statuses=[status]))
            runs.add_metric([status.value.lower()], count)
        return runs

    def _oldest_queued(self) -> Metric:
        queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
        oldest = self._instance.get_run_records(queued, limit=1, ascending=True)
        age_s = self._now() - oldest[0].create_timestamp.timestamp() if oldest else 0.0
        return GaugeMetricFamily("explorer_queue_oldest_seconds", "Age of the oldest queued run.", value=age_s)

    def _daemons(self) -> Metric:
        daemons = GaugeMetricFamily(
            "explorer_daemon_heartbeat_age_seconds", "Time since a daemon's last sign of life.", labels=["daemon"]
        )
        for name, heartbeat in sorted(self._instance.get_daemon_heartbeats().items()):
            daemons.add_metric([name.lower()], self._now() - heartbeat.timestamp)
        return daemons

    def _freshness(self, standing: Standing) -> Iterator[Metric]:
        count = len(standing.looked_at)
        yield GaugeMetricFamily("explorer_tenants", "Active tenants.", value=count)
        ages = [self._now() - at for at in standing.looked_at.values() if at is not None]
        buckets = [(str(float(limit)), float(sum(age <= limit for age in ages))) for limit in _AGES_S]
        yield HistogramMetricFamily(
            "explorer_tenant_age_seconds",
            "Active tenants by the time since their server was last looked at, by a look or a run, as it is now: a tenant moves "
            "from bucket to bucket. One that never was is only in the last.",
            buckets=[*buckets, ("+Inf", float(count))],
            sum_value=sum(ages),
        )

    def _alerts(self, standing: Standing) -> Metric:
        alerts = GaugeMetricFamily("explorer_alerts", "Alerts that are open.", labels=["cause", "severity"])
        for (cause, severity), count in sorted(standing.alerts.items()):
            alerts.add_metric([cause, severity], count)
        return alerts

    def _disk(self) -> Iterator[Metric]:
        try:
            usage = shutil.disk_usage(self._settings.home)
        except OSError:
            return
        yield GaugeMetricFamily("explorer_home_disk_bytes", "Size of the file system of HOME.", value=usage.total)
        yield GaugeMetricFamily("explorer_home_disk_free_bytes", "What is free of it.", value=usage.free)

    def _look_at_ended_runs(self) -> None:
        """Count what ended since the last look."""
        began = datetime.fromtimestamp(self._now(), UTC)
        seen: set[str] = set()
        for record in self._records(self._read_until - _OVERLAP):
            run_id = record.dagster_run.run_id
            seen.add(run_id)
            if run_id not in self._counted and record.update_timestamp.timestamp() >= self._since_s:
                self._count(record)
        self._counted, self._read_until = seen, began

    def _records(self, since: datetime) -> Iterator[dg.RunRecord]:
        wanted = dg.RunsFilter(statuses=ENDED, updated_after=since)
        cursor: str | None = None
        while page := self._instance.get_run_records(wanted, limit=_PAGE, cursor=cursor):
            yield from page
            if len(page) < _PAGE:
                return
            cursor = page[-1].dagster_run.run_id

    def _count(self, record: dg.RunRecord) -> None:
        status = record.dagster_run.status.value
        self._ended[status] += 1
        if record.start_time is not None:
            self._queued_s.observe(max(0.0, record.start_time - record.create_timestamp.timestamp()))
            if record.end_time is not None:
                self._run_s.labels(status.lower()).observe(max(0.0, record.end_time - record.start_time))
