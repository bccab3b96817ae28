"""The sensor `alerts`: looks what is wrong, notes it in the catalog, and tells what is new."""

import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg

from explorer.catalog.coordination.alerts import Alert
from explorer.contract.names import ALERTS, schedule_name
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from explorer_dagster.alerts.causes import Causes
from explorer_dagster.alerts.posting import post
from explorer_dagster.resources import Platform

INTERVAL_S = 60
# Following the whole trail takes seconds where it has a million entries.
_AUDIT_EVERY = timedelta(hours=1)
_log = logging.getLogger(__name__)


def alerts(pipelines: Sequence[Pipeline]) -> dg.SensorDefinition:
    """The sensor of an installation with these pipelines. Its cursor: when the audit trail was followed last."""

    @dg.sensor(
        name=ALERTS,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for failures, stale tables, tokens that expire, a full disk, degraded hardening and a broken audit "
        "trail; tells what is new to EXPLORER_ALERT_WEBHOOK_URL, once until it changes.",
    )
    def sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
        began = time.monotonic()
        running = _running_schedules(context.instance)
        causes = Causes(
            platform.settings,
            platform.catalog,
            platform.connections,
            list(pipelines),
            lambda pipeline: schedule_name(pipeline.name) in running,
        )
        looks: dict[str, Callable[[], Iterable[Alert]]] = {
            "failure": causes.failures,
            "staleness": causes.staleness,
            "credentials": causes.tokens,
            "quota": causes.quotas,
            "disk": causes.disk,
            "hardening": causes.hardening,
        }
        now = datetime.now(UTC)
        if not context.cursor or datetime.fromisoformat(context.cursor) + _AUDIT_EVERY <= now:
            looks["audit"] = causes.audit
        present, looked = _look(looks)
        if "audit" in looked:
            context.update_cursor(now.isoformat())
        store = platform.catalog.alerts
        untold = store.found(present, looked)
        said = f"{len(store.open())} things are wrong"
        url = platform.settings.alert_webhook_url
        if url is not None and untold:
            try:
                post(url.get_secret_value(), untold, name=platform.settings.ui_url or socket.gethostname())
            except ExplorerError as error:
                _log.warning("%s [%s] %s", error.message, error.code, error.next_step)
                return dg.SkipReason(f"{said}; {len(untold)} wait to be told: {error.message}")
            store.told(untold)
            said += f", {len(untold)} were told"
        return dg.SkipReason(f"{said}. Looked for {time.monotonic() - began:.1f} s.")

    return sensor


def _look(looks: dict[str, Callable[[], Iterable[Alert]]]) -> tuple[list[Alert], list[str]]:
    """What was found, and the kinds that could be looked at: of the others nothing is known, so nothing is over."""
    present: list[Alert] = []
    looked: list[str] = []
    for name, look in looks.items():
        try:
            present += look()
        except (OSError, psycopg.Error) as error:
            _log.warning("Whether something is wrong cannot be told for %s: %s", name, error)
        else:
            looked.append(name)
    return present, looked


def _running_schedules(instance: dg.DagsterInstance) -> set[str]:
    """Names of the schedules that run."""
    return {state.name for state in instance.all_instigator_state() if state.is_running}
