"""Which pages can hosts show (MCP Apps, `io.modelcontextprotocol/ui`), and which address does each have?

A page gets the answer of a call from its host. It is the same for every caller and holds no data, so it needs no right.
"""

from functools import cache
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.server.apps import APP_MIME_TYPE

# Rows as a table that sorts, bars, or lines.
RESULT = "ui://data-explorer/result"
_FILES = {RESULT: "result.html"}


def tool_meta(view: str | None) -> dict[str, Any] | None:
    """What `tools/list` tells a host of a tool's page; hosts without pages pass over it."""
    return {"ui": {"resourceUri": view}} if view is not None else None


def page(uri: str) -> types.ReadResourceResult | None:
    """The page of that address; None when there is none. It asks for no network, which is a host's default."""
    if uri not in _FILES:
        return None
    content = types.TextResourceContents(
        uri=uri, mime_type=APP_MIME_TYPE, text=_text(_FILES[uri]), _meta={"ui": {"csp": {}, "prefersBorder": True}}
    )
    return types.ReadResourceResult(contents=[content])


def listed() -> list[types.Resource]:
    """The pages in `resources/list`."""
    return [
        types.Resource(uri=uri, name=uri.rpartition("/")[2], title="Result as table or chart", mime_type=APP_MIME_TYPE)
        for uri in _FILES
    ]


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
