"""Characters that jsonb cannot store are replaced, the rest stays; equal values are written equally."""

import math

import pytest

from explorer.core.jsonb import canonical, storable


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b\ud800", "a\ufffdb\ufffd"),
        ({"k\0": ("x", 1), 2: math.nan}, {"k\ufffd": ["x", 1], "2": None}),
        ({"s": {"b", "a"}}, {"s": ["a", "b"]}),
        ([math.inf, -math.inf, 1.5, True, None], [None, None, 1.5, True, None]),
        ("नेपाल", "नेपाल"),
    ],
)
def test_values_are_made_storable(value: object, stored: object) -> None:
    assert storable(value) == stored


def test_equal_values_have_one_spelling() -> None:
    assert canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1}) == b'{"a":"\\u00e9","b":1}'
