"""Fills the templates: texts of the language's file, everything else escaped, strict headers on each response."""

import secrets
import tomllib
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

_LANGUAGE = "en"
# Names of clients and people are cut here; no page needs longer ones.
_MAX_SHOWN = 120
# Nothing but the page's own style is loaded or run. Without `form-action`: Chromium and Safari apply it to the redirect that
# follows a form, and the last one leads to the client.
_POLICY = "default-src 'none'; style-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    # Under no-referrer browsers send `Origin: null` with a form, and the form would be taken for that of another site.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def text(name: str, /, **values: str) -> str:
    """The text of that name in `en.toml`, such as `consent.title`, with its `{values}` filled in. Plain text, not HTML."""
    found: Any = _texts()
    for part in name.split("."):
        found = found[part]
    return str(found).format(**values)


def page(template: str, status: int = 200, *, refresh_s: int | None = None, **values: Any) -> Response:
    """The filled template as a response. `refresh_s`: the page is loaded again after so many seconds."""
    nonce = secrets.token_urlsafe(16)
    html = _environment().get_template(template).render(nonce=nonce, language=_LANGUAGE, **values)
    headers = {**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce), "Content-Language": _LANGUAGE}
    if refresh_s is not None:
        headers["Refresh"] = str(refresh_s)
    return HTMLResponse(html, status, headers=headers)


def shown(value: str) -> str:
    """A text of somebody else, fit to be shown in one line: no control, no mark that turns the direction of what follows, not
    too long."""
    visible = "".join(
        " " if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co") else char for char in value
    )
    plain = " ".join(visible.split())
    return plain if len(plain) <= _MAX_SHOWN else f"{plain[: _MAX_SHOWN - 1]}…"


def _strong(name: str, /, **values: str) -> Markup:
    """A text as HTML with its values in bold, each of which comes from somebody else."""
    bold = {key: Markup("<strong><bdi>{}</bdi></strong>").format(shown(value)) for key, value in values.items()}
    found: Any = _texts()
    for part in name.split("."):
        found = found[part]
    return escape(found).format(**bold)


@cache
def _texts() -> Mapping[str, Any]:
    return tomllib.loads((resources.files(__package__) / f"{_LANGUAGE}.toml").read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"text": text, "strong": _strong}
    made.filters["shown"] = shown
    return made
