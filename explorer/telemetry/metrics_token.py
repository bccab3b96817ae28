"""Who may read `/metrics`? Programs that send the token: `EXPLORER_METRICS_TOKEN`, else the content of HOME/metrics.token."""

import hmac
from pathlib import Path

from explorer.core.files import private_secret
from explorer.core.settings import Settings

METRICS_PATH = "/metrics"
_TOKEN_FILE = "metrics.token"  # noqa: S105 (a file's name)
_BEARER = "bearer "


def make_metrics_token(home: Path) -> str:
    """The token of this HOME, made at first use with mode 0600. For `explorer up`. Raises OSError."""
    return private_secret(home / _TOKEN_FILE)


def known_metrics_token(settings: Settings) -> str:
    """The token that readers must send; empty when there is none, and then nobody may read. Makes nothing."""
    if settings.metrics_token is not None:
        return settings.metrics_token.get_secret_value()
    try:
        return (settings.home / _TOKEN_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def may_read_metrics(settings: Settings, authorization: str) -> bool:
    """Whether the header `Authorization` of a request has the token. The file is read each time: it may be made or changed
    while a process runs."""
    token = known_metrics_token(settings)
    given = authorization[len(_BEARER) :] if authorization.lower().startswith(_BEARER) else ""
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())
