"""A page cursor is valid for one caller, tenant, statement and version of the data, and for a limited time."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_bridge.sql import CursorExpired, CursorRefused, PageBinding, PageCursors

CURSORS = PageCursors(b"k" * 32, lifetime_s=600)
BINDING = PageBinding("ana", "clinic", "select 1", "run-7")


@given(st.integers(0, 2**40))
def test_the_offset_comes_back(offset: int) -> None:
    assert CURSORS.offset(CURSORS.issue(BINDING, offset), BINDING) == offset


@pytest.mark.parametrize("field", ["principal", "tenant", "statement"])
def test_another_callers_cursor_is_refused(field: str) -> None:
    token = CURSORS.issue(BINDING, 100)
    with pytest.raises(CursorRefused) as caught:
        CURSORS.offset(token, dataclasses.replace(BINDING, **{field: "other"}))
    assert caught.value.code == "cursor_invalid"


def test_moving_a_letter_between_the_bound_names_does_not_help() -> None:
    token = CURSORS.issue(PageBinding("ab", "c", "s", "r"), 1)
    with pytest.raises(CursorRefused):
        CURSORS.offset(token, PageBinding("a", "bc", "s", "r"))


def test_refreshed_data_expires_the_cursor() -> None:
    token = CURSORS.issue(BINDING, 100)
    with pytest.raises(CursorExpired) as caught:
        CURSORS.offset(token, dataclasses.replace(BINDING, data_version="run-8"))
    assert caught.value.code == "cursor_expired"


def test_time_expires_the_cursor() -> None:
    token = CURSORS.issue(BINDING, 100, now_s=1000)
    assert CURSORS.offset(token, BINDING, now_s=1600) == 100
    with pytest.raises(CursorExpired):
        CURSORS.offset(token, BINDING, now_s=1601)


@given(st.integers(0, 200), st.sampled_from("ABab01-_=é"))
def test_no_changed_character_goes_unnoticed(at: int, char: str) -> None:
    token = CURSORS.issue(BINDING, 100, now_s=2e9)
    changed = token[: at % len(token)] + char + token[at % len(token) + 1 :]
    if changed != token:
        with pytest.raises(CursorRefused):
            CURSORS.offset(changed, BINDING, now_s=2e9)


@given(st.text(max_size=120))
def test_any_text_is_refused_and_never_an_accident(token: str) -> None:
    with pytest.raises(CursorRefused):
        CURSORS.offset(token, BINDING)


def test_the_key_is_long_and_never_shown() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PageCursors(b"short")
    assert "kkkk" not in repr(CURSORS)
