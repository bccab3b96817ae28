"""The place of records, next, total and limit in an answer, for any names of its keys."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.extract.envelopes import EnvelopeReader
from explorer.providers.paging import Envelope

# Control characters, quotes and backslashes are no keys of an API.
CHARACTERS = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"\\')
KEY = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda key: key != "rows")
PATH = st.lists(KEY, max_size=3).map(tuple)


def put(answer: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *outer, last = path
    for key in outer:
        answer = answer.setdefault(key, {})
    answer[last] = value


def are_apart(paths: list[tuple[str, ...]]) -> bool:
    """No path leads through or to the place of another."""
    used = [path for path in paths if path]
    return all(a is b or a[: len(b)] != b for a in used for b in used)


@given(st.lists(PATH, min_size=3, max_size=3).filter(are_apart), st.lists(st.integers(), max_size=3), st.booleans())
def test_values_are_found_at_their_paths(paths: list[tuple[str, ...]], rows: list[int], nulls: bool) -> None:
    next_, total, limit = paths
    answer: dict[str, Any] = {"rows": rows}
    values = (None, None, None) if nulls else ("?next", 7, 5)
    for path, value in zip(paths, values, strict=True):
        if path:
            put(answer, path, value)
    page = EnvelopeReader(Envelope(next=next_, total=total, limit=limit), "rows").read(json.dumps(answer).encode())
    assert [json.loads(bytes(record)) for record in page.records] == rows
    expected = tuple(value if path else None for path, value in zip(paths, values, strict=True))
    assert (page.next, page.total, page.limit) == expected


@pytest.mark.parametrize("answer", [b'{"rows": []}', b'{"rows": [], "meta": null}', b'{"rows": [], "meta": {}}'])
def test_what_is_not_there_is_none(answer: bytes) -> None:
    page = EnvelopeReader(Envelope(next=("meta", "next"), total=("meta", "count")), "rows").read(answer)
    assert (page.next, page.total, page.limit) == (None, None, None)


@pytest.mark.parametrize("total", [-1, 7.0])
def test_counts_are_whole_and_not_negative(total: float) -> None:
    page = EnvelopeReader(Envelope(total=("n",)), "rows").read(json.dumps({"rows": [], "n": total}).encode())
    assert page.total == (7 if total > 0 else None)


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"rows": null}', b'{"rows": {}}', b'{"rows": [], "next": 5}'])
def test_another_shape_is_an_error(answer: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        EnvelopeReader(Envelope(next=("next",)), "rows").read(answer)
