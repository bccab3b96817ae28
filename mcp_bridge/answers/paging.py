"""Where does a list go on? Behind the name of the last item that was shown, so that pages stay right when items come and go."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Of an answer, for the cursor and what stands around a list.
PAGING_TOKENS = 250


def page_after(items: Sequence[T], after: str | None, limit: int, name: Callable[[T], str]) -> tuple[list[T], bool]:
    """The next `limit` of name-sorted items behind the one named `after`, and whether there are more."""
    rest = [item for item in items if after is None or name(item) > after]
    return rest[:limit], len(rest) > limit


def next_place(page: Sequence[T], shown: int, more: bool, name: Callable[[T], str]) -> str | None:
    """The name behind which the next page begins, when so many items of this one had room; None when nothing is left."""
    return name(page[shown - 1]) if more or shown < len(page) else None
