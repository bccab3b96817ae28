"""The origin of a row's key columns: fields of the record, also renamed or read twice, and constants."""

from explorer.extract.records.key_layout import key_layout
from explorer.registry import Source

SOURCE = Source(
    name="rows", table="raw_rows", description="", endpoint="rows/", paging="link", collection="objects", page_size=3,
    primary_key="id", keys={"id": "text", "indexed_on": "timestamp", "size": "bigint"},
)  # fmt: skip


def test_fields_in_the_order_of_the_columns_are_not_reordered() -> None:
    layout = key_layout(SOURCE, ())
    assert list(layout.fields) == ["id", "indexed_on", "size"]
    assert layout.in_order is None
    assert layout.kinds == [(0, "text"), (1, "timestamp"), (2, "bigint")]
    assert (layout.untyped, layout.timestamps) == ([], [1])


def test_constants_follow_the_decoded_fields_and_are_put_in_their_place() -> None:
    layout = key_layout(SOURCE, ["indexed_on"])
    assert list(layout.fields) == ["id", "size"]
    assert layout.in_order
    assert layout.in_order(("a", 7, "constant")) == ("a", "constant", 7)
    assert layout.kinds == [(0, "text"), (2, "bigint")]
    assert layout.timestamps == []


def test_a_field_that_two_columns_read_is_decoded_once_and_left_as_it_is() -> None:
    layout = key_layout(SOURCE.model_copy(update={"rename": {"stamp": "indexed_on"} | {"id": "size"}}), ())
    assert {name: list(kinds) for name, kinds in layout.fields.items()} == {
        "id": ["text", "bigint"],
        "stamp": ["timestamp"],
    }
    assert layout.in_order
    assert layout.in_order(("5", "now")) == ("5", "now", "5")
    assert layout.untyped == [(0, "text"), (2, "bigint")]
    assert layout.timestamps == [1]
