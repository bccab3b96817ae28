"""Where are the running parts? `HOME/run/state.json`, written by the supervisor and read by everybody else.

Holds addresses, process ids and paths, no secret. The webserver's token lies beside it in its own 0600 file.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from explorer.core.files import private_secret, read_json_object, write_private

STATE_FILE = Path("run") / "state.json"
TOKEN_FILE = Path("webserver.token")


def read_state(home: Path) -> dict[str, Any]:
    """`{dagster_url, bridge_url, demo_url, ...}` as `explorer up` wrote it; empty when nothing was started, or when the file is
    unreadable or not of `write_state`'s shape."""
    try:
        state = read_json_object(home / STATE_FILE)
    except OSError:
        return {}
    return state if _is_sound(state) else {}


def write_state(home: Path, state: dict[str, Any]) -> None:
    """Replace the state. Raises OSError."""
    write_private(home / STATE_FILE, json.dumps(state, indent=2))


def clear_state(home: Path) -> None:
    """Delete the state. On a read-only HOME it stays, and names processes that are gone."""
    with contextlib.suppress(OSError):
        (home / STATE_FILE).unlink(missing_ok=True)


def webserver_token(home: Path) -> str:
    """The token that the guarded webserver demands on mutations; made at first use, mode 0600."""
    return private_secret(home / TOKEN_FILE)


def known_webserver_token(home: Path) -> str:
    """The same token for clients; empty when there is none. Makes nothing."""
    try:
        return (home / TOKEN_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _is_sound(state: dict[str, Any]) -> bool:
    """Whether the parts that programs use have the shape that is written."""
    processes = state.get("processes", {})
    return (
        isinstance(processes, dict)
        and all(isinstance(each, dict) and isinstance(each.get("pid") or 0, int) for each in processes.values())
        and all(isinstance(state.get(name) or {}, dict) for name in ("supervisor", "pids", "database"))
        and all(
            isinstance(state.get(name) or "", str) for name in ("instance", "dagster_url", "bridge_url", "demo_url")
        )
    )
