"""Alerts: told once by the webhook until they change, kept while it is away, and told when they are over."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from explorer.catalog import Scope
from explorer.catalog.coordination.alerts import Alert
from explorer.catalog.coordination.syncs import GoodRun
from explorer.core.settings import get_settings
from explorer.registry import Pipeline
from explorer_dagster.alerts.causes import Causes
from explorer_dagster.alerts.posting import payload
from explorer_dagster.alerts.sensor import alerts
from explorer_dagster.resources import Platform
from tests.explorer_dagster.conftest import Stage


class Webhook:
    """What came, and the status that is answered."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []

    def take(self, of: str) -> list[dict[str, Any]]:
        """The alerts about this that came since the last call: other tests leave things in the same catalog."""
        found = [each for body in self.bodies for each in body["alerts"] if of in each["key"]]
        self.bodies = []
        return found


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with _listening(Webhook()) as (hook, url):
        monkeypatch.setenv("EXPLORER_ALERT_WEBHOOK_URL", url)
        get_settings.cache_clear()
        yield hook
    get_settings.cache_clear()


@contextmanager
def _listening(hook: Webhook) -> Iterator[tuple[Webhook, str]]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if hook.status == 200:
                hook.bodies.append(body)
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hook, f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        server.server_close()


def test_a_failure_is_told_once_until_it_changes_and_when_it_is_over(
    stage: Stage, webhook: Webhook, pipeline: Pipeline
) -> None:
    sensor, syncs, key = alerts([pipeline]), stage.catalog.syncs, stage.tenant.key

    def tick() -> str:
        with dg.build_sensor_context(stage.instance, resources={"platform": Platform()}) as context:
            return str(sensor.evaluate_tick(context).skip_message)

    def fails(code: str) -> None:
        now = datetime.now(UTC)
        assert syncs.failed(
            stage.tenant, pipeline.name, code, "The <key> is refused.", is_final=True, began_at=now, ended_at=now
        )

    tick()
    webhook.bodies = []
    fails("commcare_throttled")
    webhook.status = 500
    assert "wait to be told" in tick()
    webhook.status = 200
    assert "were told" in tick()
    [told] = webhook.take(key)
    assert (told["cause"], told["severity"], told["code"], told["state"]) == (
        "failure", "warning", "commcare_throttled", "open",
    )  # fmt: skip
    assert "The <key> is refused." in told["message"]
    fails("commcare_throttled")
    tick()
    assert webhook.take(key) == []

    fails("commcare_credentials_invalid")
    tick()
    assert [each["severity"] for each in webhook.take(key)] == ["critical"]
    assert [each.code for each in stage.catalog.alerts.open() if key in each.key] == ["commcare_credentials_invalid"]
    # What changed and ended while the webhook was away is told as over: somebody heard that it began.
    fails("commcare_throttled")
    webhook.status = 500
    tick()
    now = datetime.now(UTC)
    syncs.ran(pipeline.name, [GoodRun(stage.tenant.id, now, now, "1")])
    tick()
    webhook.status = 200
    tick()
    assert [each["state"] for each in webhook.take(key)] == ["over"]
    tick()
    assert webhook.take(key) == []


def test_an_alert_with_a_long_key_stays_open_and_one_that_nobody_heard_of_ends_silently(stage: Stage) -> None:
    store = stage.catalog.alerts
    cause = f"long-{stage.tenant.key}"
    alert = Alert(f"{cause}:{'x' * 600}", cause, "warning", "c", "Long.", "Look.")

    def untold(*present: Alert) -> list[Alert]:
        return [each for each in store.found(present, [cause]) if each.cause == cause]

    assert [each.is_over for each in untold(alert)] == [False]
    assert untold() == []
    found = untold(alert)
    store.told(found)
    assert untold(alert) == []
    [over] = untold()
    assert over.is_over
    store.told([over])
    assert untold() == []


def test_stale_tables_and_tokens_that_expire_are_found(stage: Stage, pipeline: Pipeline) -> None:
    platform, catalog, tenant = Platform(), stage.catalog, stage.tenant

    def causes(*, scheduled: bool) -> Causes:
        return Causes(platform.settings, catalog, platform.connections, [pipeline], lambda _: scheduled)

    def of(found: Iterator[Alert]) -> list[str]:
        return [alert.key for alert in found if tenant.key in alert.key]

    catalog.syncs.looked(pipeline.name, [tenant.id])
    assert of(causes(scheduled=True).staleness()) == []
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(
            "UPDATE catalog.syncs SET looked_at = now() - interval '27 hours' WHERE tenant_id = %s", [tenant.id]
        )
    assert of(causes(scheduled=True).staleness()) == [f"stale:{tenant.key}:{pipeline.name}"]
    assert of(causes(scheduled=False).staleness()) == []

    soon, later = datetime.now(UTC) + timedelta(days=3), datetime.now(UTC) + timedelta(days=30)
    catalog.principals.create_token(f"soon-{tenant.key}", [tenant], {Scope.QUERY_RUN}, soon)
    catalog.principals.create_token(f"later-{tenant.key}", [tenant], {Scope.QUERY_RUN}, later)
    assert of(causes(scheduled=True).tokens()) == [f"token:soon-{tenant.key}"]
    # A server that the platform set up as superuser is closed.
    assert list(causes(scheduled=True).hardening()) == []


def test_a_message_names_the_worst_first_and_its_texts_are_no_markup() -> None:
    made = [
        Alert(f"failure:t{number:02}", "failure", "warning", "x", "<!channel> & more", "Look.") for number in range(25)
    ]
    made += [
        Alert("audit", "audit", "critical", "y", "Broken.", "Act."),
        Alert("disk", "disk", "warning", "z", "Full.", "Go.", None, True),
    ]
    body = payload("https://hooks.slack.com/services/T/B/secret", made, name="here")
    assert list(body) == ["text"]
    lines = body["text"].splitlines()
    assert lines[0] == "Data Explorer at here:"
    assert lines[1] == "🔴 Broken. Act."
    assert lines[2] == "🟠 &lt;!channel&gt; &amp; more Look."
    assert lines[-1].startswith("... and 7 more")
    assert len(payload("https://chat.example.org/hooks/1", made, name="here")["alerts"]) == 27
