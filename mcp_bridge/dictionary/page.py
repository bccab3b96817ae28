"""The data dictionary as one HTML page that needs nothing else: no network, no other file.

Every text of the source is escaped; only the page's own style and script may take effect, by their hashes. Without a script all
of it is there but the box that finds.
"""

import base64
import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mcp_bridge.dictionary.contents import POLICIES, Dictionary

_POLICY = "default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*")


def as_html(dictionary: Dictionary) -> str:
    """The page."""
    style, script = _own("page.css"), _own("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            it=dictionary,
            names={table.name for table in dictionary.tables},
            columns=sum(len(table.columns) for table in dictionary.tables),
            policy=_POLICY.format(style=_hash(style), script=_hash(script)),
            policy_words=POLICIES[dictionary.policy],
            style=Markup(style),  # noqa: S704 (a file of ours)
            script=Markup(script),  # noqa: S704 (a file of ours)
        )
    )


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _moment(value: datetime | None) -> str:
    return "unknown" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _share(value: float) -> str:
    return "0 %" if value == 0 else "under 1 %" if value < 0.01 else f"{value:.0%}".replace("%", " %")


def _code(language: str) -> str | None:
    """The language for browsers and readers of screens; None where the application's name of it is no code."""
    return language if _LANGUAGE_TAG.fullmatch(language) else None


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _own(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": _number, "moment": _moment, "share": _share, "code": _code}
    return made
