"""Where does the next page of a list begin? After the last name shown, so that pages stay right when items come and go."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Tokens of an answer that are kept for the cursor and the fields beside the list.
PAGING_TOKENS = 250


def page_after(items: Sequence[T], after: str | None, limit: int, name: Callable[[T], str]) -> tuple[list[T], bool]:
    """The next `limit` items after the one named `after`, and whether there are more. `items` are sorted by name."""
    rest = [item for item in items if after is None or name(item) > after]
    return rest[:limit], len(rest) > limit


def next_place(page: Sequence[T], shown: int, more: bool, name: Callable[[T], str]) -> str | None:
    """The name after which the next page begins when `shown` items of this page fitted; None when nothing is left."""
    return name(page[shown - 1]) if more or shown < len(page) else None
