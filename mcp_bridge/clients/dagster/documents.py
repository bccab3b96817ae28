"""The GraphQL documents, read once from `documents/`; each with the fragments that it uses, as the server wants them."""

import re
from importlib.resources import files

_FRAGMENT = re.compile(r"^fragment (\w+) on .*?^}\n", re.DOTALL | re.MULTILINE)
_USED = re.compile(r"\.\.\.(\w+)")
_FILES = {
    file.name.removesuffix(".graphql"): file.read_text(encoding="utf-8")
    for file in files(__package__).joinpath("documents").iterdir()
    if file.name.endswith(".graphql")
}
_FRAGMENTS = {found[1]: found[0] for found in _FRAGMENT.finditer(_FILES.pop("fragments"))}


def _whole(document: str) -> str:
    used: dict[str, None] = {}
    unread = _USED.findall(document)
    while unread:
        name = unread.pop(0)
        if name in _FRAGMENTS and name not in used:
            used[name] = None
            unread += _USED.findall(_FRAGMENTS[name])
    return "\n".join([document, *(_FRAGMENTS[name] for name in used)])


DOCUMENTS = {name: _whole(document) for name, document in _FILES.items()}
