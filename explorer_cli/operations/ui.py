"""`ui`: a link that opens a browser's session at the Dagster UI."""

import sys
import webbrowser

import httpx

from explorer.contract.headers import TOKEN_HEADER, UI_LINKS_PATH
from explorer.core.errors import ExplorerError
from explorer.core.runtime_state import known_webserver_token, read_state
from explorer.core.settings import Settings
from explorer_cli.output.terminal import answer_json, make_console, tell
from explorer_cli.platform.context import open_settings

_TIMEOUT_S = 10.0


class UiNotReachable(ExplorerError):
    """The Dagster UI does not run, or gives this program no link."""

    code = "ui_not_reachable"


def open_ui(*, browser: bool, as_json: bool) -> int:
    """Ask the webserver for a link; show it, and open it where there is a screen. Raises: UiNotReachable."""
    settings = open_settings(writable=False)
    link, lasts_s = _new_link(settings)
    if as_json:
        answer_json({"url": link, "lasts_s": lasts_s, "session_hours": settings.ui_session_hours})
        return 0
    console = make_console(stderr=False)
    tell(console, f"This link opens the Dagster UI once, within {lasts_s:.0f} seconds:")
    tell(console, (link, "bold"))
    if browser and sys.stdout.isatty():
        webbrowser.open(link)
    return 0


def _new_link(settings: Settings) -> tuple[str, float]:
    url = settings.dagster_url or read_state(settings.home).get("dagster_url")
    if not url:
        raise UiNotReachable("The Dagster UI was not started.", next_step="Start it with `explorer up`.")
    secret = settings.dagster_token
    token = secret.get_secret_value() if secret else known_webserver_token(settings.home)
    try:
        # The webserver is ours: a proxy from the environment must not see the token.
        answer = httpx.post(
            f"{url.rstrip('/')}{UI_LINKS_PATH}", headers={TOKEN_HEADER: token}, timeout=_TIMEOUT_S, trust_env=False
        )
        given = answer.raise_for_status().json()
        # The browser's way may be another than this program's.
        return f"{(settings.ui_url or url).rstrip('/')}{given['path']}", float(given["lasts_s"])
    except httpx.HTTPStatusError as error:
        raise UiNotReachable(
            f"The webserver at {url} gives no link: status {error.response.status_code}.",
            next_step="Use the user and the HOME that started it, or its EXPLORER_DAGSTER_TOKEN.",
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        raise UiNotReachable(
            f"No webserver of this platform answers at {url}.",
            next_step="See `explorer status`; start it with `explorer up`.",
        ) from None
