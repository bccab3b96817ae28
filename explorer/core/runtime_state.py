"""Where the running parts are: `HOME/run/state.json`, written by whoever starts them, read by everybody else.

Holds addresses and process ids, no secret but the path to it. The webserver's token lies beside it in its own 0600 file.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from explorer.core.files import private_secret, read_json_object, write_private

STATE_FILE = Path("run") / "state.json"
TOKEN_FILE = Path("webserver.token")


def read_state(home: Path) -> dict[str, Any]:
    """What `explorer up` wrote: `{dagster_url, bridge_url, demo_url, ...}`; empty when nothing was started, and when the file
    cannot be read or is not what `write_state` writes."""
    try:
        state = read_json_object(home / STATE_FILE)
    except OSError:
        return {}
    return state if _is_sound(state) else {}


def write_state(home: Path, state: dict[str, Any]) -> None:
    """Replace the state. Raises OSError."""
    write_private(home / STATE_FILE, json.dumps(state, indent=2))


def clear_state(home: Path) -> None:
    """Forget the state; where nothing can be written it stays, and names processes that are gone."""
    with contextlib.suppress(OSError):
        (home / STATE_FILE).unlink(missing_ok=True)


def webserver_token(home: Path) -> str:
    """The token that the guarded webserver demands on mutations; made at first use, mode 0600."""
    return private_secret(home / TOKEN_FILE)


def known_webserver_token(home: Path) -> str:
    """The same for whoever only sends it: empty when there is none. Makes nothing."""
    try:
        return (home / TOKEN_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _is_sound(state: dict[str, Any]) -> bool:
    """Whether the parts that programs work with have the shape in which they are written."""
    processes = state.get("processes", {})
    return (
        isinstance(processes, dict)
        and all(isinstance(each, dict) and isinstance(each.get("pid") or 0, int) for each in processes.values())
        and all(isinstance(state.get(name) or {}, dict) for name in ("supervisor", "pids", "database"))
        and all(
            isinstance(state.get(name) or "", str) for name in ("instance", "dagster_url", "bridge_url", "demo_url")
        )
    )
