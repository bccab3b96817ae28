"""`explorer semantics`: shows and sets a tenant's semantics through the bridge's own tool, as the operator."""

import asyncio
from pathlib import Path
from typing import Any

from explorer.core.settings import Settings
from explorer_cli.errors import UsageInvalid
from explorer_cli.operations.bridge_client import as_operator
from explorer_cli.output.escapes import visible
from explorer_cli.output.terminal import answer_json, say, write
from explorer_cli.platform.context import open_settings


def show(key: str, *, as_json: bool) -> int:
    """Print the tenant's overlay as YAML that `set` accepts."""
    data = _call(open_settings(), {"tenant": key})
    if as_json:
        answer_json(data)
        return 0
    if data["overlay"]:
        write(_as_yaml(data["overlay"]))
    version = f"version {data['version']} by {data['actor']}" if data["version"] else "no overlay yet"
    say((f"# {key}: {version}", "dim"))
    return 0


def set_from(key: str, file: Path, *, as_json: bool) -> int:
    """Set the content of a YAML file as overlay of the pipeline's semantics; an empty file removes the overlay."""
    settings = open_settings()
    data = _call(settings, {"tenant": key, "semantics": _read(file)})
    if as_json:
        answer_json(data)
    else:
        say((f"Version {data['version']}", "green"), f" of {key}'s semantics is in force.")
    return 0


def _call(settings: Settings, arguments: dict[str, Any]) -> dict[str, Any]:
    async def work() -> dict[str, Any]:
        async with as_operator(settings) as tools:
            return await tools.call("set_semantics", arguments)

    data: dict[str, Any] = asyncio.run(work())["data"]
    return data


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageInvalid(
            f"{file} cannot be read: {reason}", next_step="Give a YAML file; see docs/semantics.md."
        ) from None
    if content is not None and not isinstance(content, dict):
        raise UsageInvalid(f"{file} is no mapping of keys.", next_step="See docs/semantics.md.")
    return content or {}


def _as_yaml(content: dict[str, Any]) -> str:
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    if visible(text) != text:
        # YAML's own escapes, which `set` reads back. YAML can escape all non-ASCII characters or none.
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=False, width=120)
    return text.rstrip("\n")
