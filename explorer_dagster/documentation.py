"""Where in `docs/` is an asset described? Links to pages that our webserver serves beside the Dagster UI."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import dagster as dg

from explorer.core.settings import get_settings

PATH = "/documentation/"
_HEADING = re.compile(r"^#{2,4} (.+)$", re.MULTILINE)


def documentation(page: str, heading: str) -> Mapping[str, Any]:
    """An asset's metadata: a link to the heading in docs/`page`; nothing where the manual has none."""
    place = anchor(heading)
    return {"documentation": dg.MetadataValue.url(f"{PATH}{page}#{place}")} if place in _anchors(page) else {}


def anchor(heading: str) -> str:
    """The heading as links name it: `What lands where` is `what-lands-where`."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


@cache
def _anchors(page: str) -> frozenset[str]:
    manual = get_settings().project_dir / "docs" / page
    return frozenset(map(anchor, _HEADING.findall(manual.read_text("utf-8")))) if manual.is_file() else frozenset()
