"""How is an alert told? By one POST of JSON for all that is new, which Slack, Mattermost and others show as a message."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from explorer.catalog.coordination.alerts import Alert
from explorer.core.errors import TransientError

_TIMEOUT_S = 10.0
# Of a thousand tenants that fail at once, a message names these.
_NAMED = 20
_SIGNS = {"critical": "🔴", "warning": "🟠"}


class WebhookRefused(TransientError):
    """The webhook does not answer, or not with success. It is tried again at the next look."""

    code = "webhook_refused"


def post(url: str, alerts: Sequence[Alert], *, name: str) -> None:
    """Tell the alerts. `name`: of the installation.

    Raises:
        WebhookRefused
    """
    try:
        answer = httpx.post(url, json=payload(url, alerts, name=name), timeout=_TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The address is a secret: who has it may post.
        raise WebhookRefused(
            f"The webhook of alerts does not answer: {type(error).__name__}.",
            next_step="Check EXPLORER_ALERT_WEBHOOK_URL, and whether this machine reaches it.",
        ) from None
    if not answer.is_success:
        raise WebhookRefused(
            f"The webhook of alerts answers with status {answer.status_code}.",
            next_step="Check EXPLORER_ALERT_WEBHOOK_URL at its owner.",
        )


def payload(url: str, alerts: Sequence[Alert], *, name: str) -> dict[str, Any]:
    """`text`, for people, and but for Slack itself, which takes nothing else, `alerts` with all of them, for programs."""
    lines = [_line(alert) for alert in sorted(alerts, key=lambda each: (each.is_over, each.severity, each.key))]
    rest = [f"... and {len(lines) - _NAMED} more; `explorer status` lists them."] if len(lines) > _NAMED else []
    text = "\n".join([f"Data Explorer at {name}:", *lines[:_NAMED], *rest])
    if (urlsplit(url).hostname or "").endswith("slack.com"):
        return {"text": text}
    return {"text": text, "alerts": [_facts(alert) for alert in alerts]}


def _line(alert: Alert) -> str:
    # What upstream systems say must not be markup: Slack reads links and mentions from <...>.
    said = f"{alert.message} {alert.next_step}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"✅ over: {said}" if alert.is_over else f"{_SIGNS[alert.severity]} {said}"


def _facts(alert: Alert) -> dict[str, Any]:
    return {
        "key": alert.key, "cause": alert.cause, "severity": alert.severity, "code": alert.code, "message": alert.message,
        "next_step": alert.next_step, "since": alert.since.isoformat() if alert.since else None,
        "state": "over" if alert.is_over else "open",
    }  # fmt: skip
