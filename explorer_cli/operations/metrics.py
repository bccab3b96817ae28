"""`metrics`: what `/metrics` of the bridge and of the Dagster UI tell now."""

import httpx

from explorer.core.errors import ExplorerError
from explorer.core.runtime_state import read_state
from explorer.core.settings import Settings
from explorer.telemetry.metrics_token import METRICS_PATH, known_metrics_token
from explorer_cli.output.terminal import write
from explorer_cli.platform.context import open_settings

_TIMEOUT_S = 30.0


class MetricsUnavailable(ExplorerError):
    """A part does not run, or gives this program no metrics."""

    code = "metrics_unavailable"


def show_metrics() -> int:
    """Print both. Raises: MetricsUnavailable."""
    settings = open_settings(writable=False)
    state = read_state(settings.home)
    bridge = (state.get("bridge_url") or "").removesuffix("/mcp")
    dagster = settings.dagster_url or state.get("dagster_url") or ""
    if not bridge:
        raise MetricsUnavailable(f"Nothing runs under {settings.home}.", next_step="Start it with `explorer up`.")
    for title, base in (("MCP bridge", bridge), ("Dagster UI", dagster.rstrip("/"))):
        write(f"# {title}: {base}{METRICS_PATH}\n{_read(settings, base).rstrip()}")
    return 0


def _read(settings: Settings, base: str) -> str:
    headers = {"Authorization": f"Bearer {known_metrics_token(settings)}"}
    try:
        # The parts are ours: a proxy from the environment must not see the token.
        answer = httpx.get(f"{base}{METRICS_PATH}", headers=headers, timeout=_TIMEOUT_S, trust_env=False)
        return answer.raise_for_status().text
    except httpx.HTTPStatusError as error:
        raise MetricsUnavailable(
            f"{base}{METRICS_PATH} answers with status {error.response.status_code}.",
            next_step="Use the user and the HOME that started it, or its EXPLORER_METRICS_TOKEN.",
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise MetricsUnavailable(
            f"Nothing answers at {base}{METRICS_PATH}.", next_step="See `explorer status`; start it with `explorer up`."
        ) from None
