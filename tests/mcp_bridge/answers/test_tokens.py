"""The estimated tokens of a text are never too low, compared with counts of two vocabularies stored in `token_counts.json`."""

import json
import uuid
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_bridge.answers.envelope import clipped, fit, shown_warnings, shrunk, weight
from mcp_bridge.answers.tokens import MOST_PER_BYTE, tokens

COUNTED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "token_counts.json").read_text())
JSON_KINDS = ("cols", "json_row", "uuid", "hex32", "dates", "floats", "phones", "punct")


@pytest.mark.parametrize("counted", COUNTED, ids=lambda counted: counted["kind"])
def test_no_kind_of_text_costs_more_than_is_told(counted: dict[str, Any]) -> None:
    told = tokens(counted["text"])
    assert told >= counted["o200k_base"]
    # Words of a few languages in Latin letters are split finer by the older vocabulary.
    assert told >= 0.87 * counted["cl100k_base"]


@pytest.mark.parametrize(
    "counted", [c for c in COUNTED if c["kind"] in JSON_KINDS], ids=lambda counted: counted["kind"]
)
def test_what_answers_are_made_of_is_not_told_much_too_high(counted: dict[str, Any]) -> None:
    assert tokens(counted["text"]) <= 1.6 * counted["o200k_base"]


@given(st.text(max_size=300))
def test_any_text_costs_something_and_never_more_than_its_bytes_say(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert (tokens(text) > 0) == (text != "")
    assert tokens(text) <= ceil(MOST_PER_BYTE * size)


@given(st.lists(st.uuids(), min_size=1, max_size=30))
def test_an_identifier_costs_at_least_twenty(ids: list[uuid.UUID]) -> None:
    """Measured: 23.6 for one written with dashes, by both vocabularies."""
    assert tokens(" ".join(map(str, ids))) >= 20 * len(ids)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=20), inner, max_size=20),
    max_leaves=60,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON), st.integers(150, 2000))
def test_what_is_shrunk_fits_and_keeps_its_keys(value: dict[str, Any], room: int) -> None:
    cut = shrunk(value, room)
    assert cut == value or cut["shortened"]
    assert value.keys() <= cut.keys()
    assert weight(cut) <= max(room, 2_500)


@given(st.lists(st.text(max_size=400), min_size=1, max_size=30), st.integers(30, 500))
def test_rows_that_fit_fit_and_there_is_always_one(rows: list[str], room: int) -> None:
    taken = fit(rows, room)
    assert taken
    assert len(taken) == 1 or sum(weight(row) + 1 for row in taken) <= room
    # A row that is heavier than all the room is cut.
    assert taken == [shrunk(row, room) for row in rows[: len(taken)]]


@given(st.lists(st.text(max_size=3_000), max_size=40))
def test_warnings_stand_once_and_leave_room(warnings: list[str]) -> None:
    kept = shown_warnings([*warnings, *warnings])
    assert len(kept) == len(set(kept))
    assert weight(kept) <= 1_700
    assert shown_warnings(kept) == kept


@given(st.text(min_size=1, max_size=2_000), st.integers(10, 300))
def test_a_clipped_text_is_the_beginning_of_the_whole(text: str, room: int) -> None:
    cut = clipped(text, room)
    assert cut == text or (text.startswith(cut.removesuffix("...")) and weight(cut) <= room + 4)
