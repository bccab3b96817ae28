"""Which pages stand beside the Dagster UI? Those of `docs/`, to which assets link."""

from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from explorer_dagster.documentation import PATH, anchor

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #ccc; padding: 2px 8px; text-align: left; vertical-align: top; }}
:target {{ background: #ffc; }}
</style>
{body}
</html>"""


class Documentation:
    """ASGI middleware that answers `/documentation/<page of docs>`; everything else is for `app`."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app, self._folder = app, folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["path"].startswith(PATH)
        await (self._page(scope["path"].removeprefix(PATH)) if is_page else self._app)(scope, receive, send)

    def _page(self, name: str) -> Response:
        file = self._find(name)
        if file is None:
            return PlainTextResponse("There is no such page in docs/.", 404)
        if file.suffix != ".md":
            return FileResponse(file)
        return HTMLResponse(_PAGE.format(title=file.stem, body=_html(file.read_text("utf-8"))))

    def _find(self, name: str) -> Path | None:
        try:
            file = (self._folder / name).resolve()
            return file if file.is_relative_to(self._folder) and file.is_file() else None
        except (OSError, ValueError):
            # No file can have such a name: a NUL in it, or too long.
            return None


def _html(text: str) -> str:
    """The page as HTML, with an id for each heading."""
    parser = MarkdownIt().enable("table")
    tokens = parser.parse(text)
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(inline.content))
    return str(parser.renderer.render(tokens, parser.options, {}))
