"""Reads the GraphQL documents in `documents/` and appends to each the fragments that it uses."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_FRAGMENT = re.compile(r"^fragment (\w+) on .*?^}\n", re.DOTALL | re.MULTILINE)
_USED = re.compile(r"\.\.\.(\w+)")
_SUFFIX = ".graphql"


@cache
def documents() -> dict[str, str]:
    """The documents by name. The files are read once."""
    texts = {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in files(__package__).joinpath("documents").iterdir()
        if file.name.endswith(_SUFFIX)
    }
    fragments = {found[1]: found[0] for found in _FRAGMENT.finditer(texts.pop("fragments"))}
    return {name: _whole(document, fragments) for name, document in texts.items()}


def _whole(document: str, fragments: Mapping[str, str]) -> str:
    used: dict[str, None] = {}
    unread = _USED.findall(document)
    while unread:
        name = unread.pop(0)
        if name in fragments and name not in used:
            used[name] = None
            unread += _USED.findall(fragments[name])
    return "\n".join([document, *(fragments[name] for name in used)])
