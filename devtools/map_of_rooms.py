"""Writes the map of rooms in docs/architecture.md from the packages' docstrings: `python -m devtools.map_of_rooms`."""

import ast
import textwrap

from devtools.documents import renew
from devtools.imports import ROOT, read_modules

DOCUMENT = ROOT / "docs" / "architecture.md"
_DEEPEST = 3
_WIDTH = 120


def rooms() -> dict[str, str]:
    """The purpose of each package, up to three levels deep: the first line of its docstring."""
    modules = read_modules()
    return {
        name: (ast.get_docstring(module.tree) or "").partition("\n")[0]
        for name, module in sorted(modules.items())
        if module.is_package and name.count(".") < _DEEPEST
    }


def rendered() -> str:
    """The map as a Markdown list, indented as the folders are."""
    return "".join(_item(name, purpose) for name, purpose in rooms().items())


def _item(name: str, purpose: str) -> str:
    indent = "  " * name.count(".")
    text = f"`{name.replace('.', '/')}/`: {purpose}"
    wrapped = textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}- ", subsequent_indent=f"{indent}  ")
    return "\n".join(wrapped) + "\n"


def main() -> None:
    """Write the present map into the document."""
    renew(DOCUMENT, rooms=rendered())


if __name__ == "__main__":
    main()
