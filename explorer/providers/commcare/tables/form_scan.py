"""What does one submission hold, and where: answers, repeats, lists and case blocks?"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from explorer.providers.commcare.structure import Form
from explorer.providers.commcare.tables.paths import Path, key_of
from explorer.providers.commcare.tables.profile import FormProfile
from explorer.providers.commcare.tables.questions import KINDS
from explorer.tables.column_types import classify
from explorer.tables.value_counts import ValueCounts

# Keys at the root of a submission that are no answers: metadata, and the user's case.
_NOT_ANSWERS = frozenset({"meta", "#type"})
_CASE, _TEXT = "case", "#text"
# Attributes that refer to a case: those of repeats over a list of cases, and of stock blocks (ledgers).
ATTRIBUTES = {
    "@id": "Identifier of what the entry is about, such as a case or a product.",
    "@quantity": "Quantity.",
    "@date": "Date.",
    "@entity-id": "Case or location that the stock belongs to.",
    "@section-id": "Section of the stock.",
    "@src": "Case or location that the stock leaves.",
    "@dest": "Case or location that the stock goes to.",
    _TEXT: "Text of the entry itself.",
}


class _Node:
    """A node of a form's answers during a scan."""

    __slots__ = ("children", "is_counted", "is_multiple", "options", "path", "values")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.children: dict[str, _Node | None] = {}
        self.values: ValueCounts | None = None
        self.is_counted = True
        self.options: frozenset[str] = frozenset()
        self.is_multiple = False

    def child(self, key: str) -> "_Node":
        """The child node, made if needed."""
        spot = self.children.get(key)
        if spot is None:
            spot = self.children[key] = _Node((*self.path, key))
        return spot


class FormScan:
    """Scans submissions of one form and records what they hold. Values of text questions are not counted."""

    def __init__(self, seen: FormProfile, known: Form | None) -> None:
        self._seen = seen
        self._named_at: datetime | None = None
        self._root = _Node(())
        for question in known.questions if known else ():
            spot = self._root
            for length in range(len(question.path)):
                child = spot.children.setdefault(question.path[length], _Node(question.path[: length + 1]))
                spot = child or spot
            spot.is_counted = KINDS.get(question.type, "text") not in ("text", "choices", "geopoint")
            spot.is_multiple = question.type == "MSelect"
            if spot.is_multiple or question.type == "Select":
                spot.options = frozenset(option.value for option in question.options)

    def take(self, form: dict[str, Any], received_on: datetime | None) -> None:
        """Scan one submission."""
        name = form.get("@name")
        is_later = self._named_at is None or (received_on is not None and received_on >= self._named_at)
        if isinstance(name, str) and name and is_later:
            self._seen.name, self._named_at = name, received_on
        self._object(form, self._root)

    def _object(self, node: dict[str, Any], spot: _Node) -> None:
        for key, value in node.items():
            if key == _TEXT:
                continue
            if key == _CASE:
                value = self._without_blocks(value, spot)
            child = spot.children.get(key, spot)
            if child is spot:
                is_fact = key in ATTRIBUTES and spot.path
                skipped = (key.startswith("@") and not is_fact) or (key in _NOT_ANSWERS and not spot.path)
                child = spot.children[key] = None if skipped else _Node((*spot.path, key))
            if child is not None and value not in ("", None):
                self._value(value, child)

    def _without_blocks(self, value: Any, spot: _Node) -> Any:
        """The value of a `case` key without case blocks: an answer like any other."""
        items = value if isinstance(value, list) else [value]
        others = [item for item in items if not _is_block(item)]
        if len(others) == len(items):
            return value
        self._seen.blocks.add(key_of((*spot.path, _CASE)))
        return others or None

    def _value(self, value: Any, spot: _Node) -> None:
        if isinstance(value, dict):
            self._object(value, spot)
            value = value.get(_TEXT)
        elif isinstance(value, list):
            objects = [item for item in value if isinstance(item, dict)]
            if objects:
                self._seen.repeats.add(key_of(spot.path))
            for item in objects:
                self._object(item, spot)
                self._answer(item.get(_TEXT), spot.child(_TEXT))
            value = [item for item in value if item not in ("", None, []) and not isinstance(item, dict)] or None
            if value:
                self._seen.lists.add(key_of(spot.path))
        self._answer(value, spot)

    def _answer(self, value: Any, spot: _Node) -> None:
        if value in ("", None):
            return
        text = text_of(value)
        if spot.values is None:
            spot.values = self._seen.answers.setdefault(key_of(spot.path), ValueCounts())
        if spot.is_counted:
            spot.values.add(classify(text), text)
        elif not spot.values.all:
            spot.values.add("text")
        if spot.options:
            for answer in _choices(value) if spot.is_multiple else (text,):
                spot.values.choose(answer, spot.options)


def _choices(value: Any) -> Iterator[str]:
    """The choices of a multiple-select answer, which may be a list."""
    for item in value if isinstance(value, list) else [value]:
        yield from filter(None, text_of(item).split(" "))


def _is_block(value: Any) -> bool:
    """Whether it has a case id: as an attribute, or as an element in version 1 of case blocks."""
    if not isinstance(value, dict):
        return False
    identity = value.get("@case_id")
    return (value.get("case_id") if identity is None else identity) not in ("", None)


def text_of(value: Any) -> str:
    """A value as text; other types as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
