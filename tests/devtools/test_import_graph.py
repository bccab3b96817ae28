"""The graph of rooms shows the real imports."""

import pytest

from devtools.import_graph import PICTURE, direct, draw, room_edges, room_of


def test_the_picture_shows_the_imports_that_there_are() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(room_edges()), "run `python -m devtools.import_graph`"


def test_rooms_are_packages_below_the_two_divided_ones() -> None:
    assert room_of("explorer.providers.commcare.people.access") == "explorer.providers"
    assert room_of("mcp_bridge.server") == "mcp_bridge.server"
    assert room_of("explorer_dagster.assets.dbt") == "explorer_dagster"
    assert {"explorer.core", "explorer.catalog", "mcp_bridge.sql", "explorer_cli"} <= room_edges().keys()


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    assert direct({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_every_room_has_a_box_and_rooms_stand_above_what_they_import() -> None:
    picture = draw({"a": {"b"}, "b": set()})
    boxes = [line for line in picture.splitlines() if line.startswith("<rect x=")]
    assert [line.partition(' y="')[2].partition('"')[0] for line in boxes] == ["20", "102"]
    assert picture.count('<path d="M') == 2, "the tip of the arrow and the arrow"


def test_a_circle_of_rooms_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        draw({"a": {"b"}, "b": {"a"}})
