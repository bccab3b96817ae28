"""The map of rooms in docs/architecture.md equals the docstrings of the packages."""

import re

from devtools.documents import renewed
from devtools.imports import ROOT
from devtools.map_of_rooms import DOCUMENT, rendered, rooms


def test_the_map_is_what_the_packages_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == renewed(text, "rooms", rendered()), "run `python -m devtools.map_of_rooms`"


def test_every_room_has_its_purpose() -> None:
    assert {"explorer", "explorer.catalog", "mcp_bridge.sql.validation"} <= rooms().keys()
    assert [name for name, purpose in rooms().items() if not purpose] == []


def test_files_that_the_document_names_exist() -> None:
    """Paths start at the root; a short file name in the same sentence is a file below a named folder."""
    prose = DOCUMENT.read_text(encoding="utf-8").partition("<!-- rooms -->")[0]
    written = set(re.findall(r"`([\w./]+/(?:[\w.]+)?)`", prose))
    assert len(written) > 25
    assert [path for path in sorted(written) if not (ROOT / path).exists()] == []
    short = set(re.findall(r"`(\w+\.py)`", prose))
    assert [name for name in sorted(short) if not list(ROOT.glob(f"mcp_bridge/sql/**/{name}"))] == []
