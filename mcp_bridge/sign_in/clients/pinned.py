"""Clients whose documents this software knows, and who uses their names without being them."""

import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class PinnedClient:
    """A well-known client. `words`: in its name, as `_letters` gives them; `hosts`: its publisher's."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    words: tuple[str, ...]
    hosts: frozenset[str]


@cache
def pinned_clients() -> Mapping[str, PinnedClient]:
    """The well-known clients by id."""
    text = (resources.files(__package__) / "pinned.toml").read_text(encoding="utf-8")
    return {
        row["id"]: PinnedClient(
            row["id"], row["name"], tuple(row["redirect_uris"]), tuple(row["words"]), frozenset(row["hosts"])
        )
        for row in tomllib.loads(text)["client"]
    }


def poses_as(name: str, *hosts: str | None) -> str | None:
    """The well-known client whose name this is, unless it was published on, or answers to, one of that client's hosts."""
    letters = _letters(name)
    for client in pinned_clients().values():
        if any(word in letters for word in client.words) and not any(host in client.hosts for host in hosts):
            return client.name
    return None


def _letters(name: str) -> str:
    """Letters and digits alone, in one form: what a name looks like to a hasty reader."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(char for char in decomposed if char.isalnum())
