"""What an answer is written as."""

import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from mcp_bridge.answers.envelope import Answer, compact_json, success


@pytest.mark.parametrize(
    "value",
    [
        {"rows": [['é\u2028\x01"/', None, True, 1.5, -0.0, 1e16, 1e-7]], "empty": [{}, [], ""]},
        {"larger than 64 bits": [2**70, -(2**70), 2**64 - 1]},
        {"half a character": "a\ud800b"},
    ],
)
def test_what_json_knows_is_the_same_afterwards(value: Any) -> None:
    text = compact_json(value)
    assert json.loads(text) == value
    assert text.count(" ") == json.dumps(value, separators=(",", ":")).count(" ")


def test_what_json_does_not_know_is_text() -> None:
    moment, name = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UUID(int=7)
    assert json.loads(compact_json([moment, name, math.nan])) == ["2026-01-02T03:04:05Z", str(name), None]


def test_structured_content_and_text_say_the_same() -> None:
    answer = Answer({"rows": [["\ud800", 2**70, UUID(int=7), 0.1]]}, ["cut"])
    result = success(answer, "demo:one", 3, {"calls": 2})
    assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]
    assert result.structured_content is not None
    assert result.structured_content["data"]["rows"] == [["\ud800", 2**70, str(UUID(int=7)), 0.1]]
