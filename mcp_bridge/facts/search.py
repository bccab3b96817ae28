"""Which tables and columns match these words? In any language: names, labels, translations, options, synonyms, descriptions.

Items that match more of the question's words come first, then items that match in a better field. Words are compared without
case and accents (`explorer.core.words`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from explorer.core.words import fold, words
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.semantic_layer import SemanticLayer
from mcp_bridge.facts.table_facts import TableFacts

Field = Literal["name", "label", "synonym", "translation", "option", "path", "description", "pii"]
# The score of a match by its field, and by the part of the word that it covers.
_WORTH: dict[Field, int] = {
    "name": 60, "label": 60, "synonym": 60, "translation": 50, "option": 30, "path": 20, "description": 12,
    "pii": 12,
}  # fmt: skip
_WHOLE, _BEGINNING, _INSIDE = 10, 6, 3
_TABLE_BONUS = 1.2
# Shorter Latin words occur inside too many others.
_MIN_PART_CHARS = 3
_SNIPPET_CHARS = 90
# These words find all columns with personal data.
PERSONAL_DATA = "Personal data:"
# A separator: texts in PostgreSQL cannot contain this character.
_BETWEEN = "\0"


Place = tuple[int, int, str, str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A matching table or column. `matched`: number of words that match; `found_in`: the best field; `text`: its text."""

    matched: int
    score: int
    table: str
    column: str | None
    found_in: str
    text: str

    @property
    def order(self) -> Place:
        """The sort key, best first; the same search always gives the same order."""
        return (-self.matched, -self.score, self.table, self.column or "")


@dataclass(frozen=True, slots=True)
class _Text:
    """`where`: the field; for translations, with the language."""

    field: Field
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A table or column with all its texts. `folded`: the same texts, ready to be compared."""

    table: str
    column: str | None
    texts: tuple[_Text, ...]
    folded: str


def index(tables: Iterable[TableFacts], columns: dict[str, list[Column]], layer: SemanticLayer) -> list[Item]:
    """The items that `search` looks through. Cache them, because folding takes most of the time."""
    items: list[Item] = []
    for facts in tables:
        items.append(_item(facts.name, None, _of_table(facts, layer)))
        items += (_item(facts.name, column.name, _of_column(column, layer)) for column in columns[facts.name])
    return items


def _item(table: str, column: str | None, texts: Iterable[_Text]) -> Item:
    listed = tuple(texts)
    return Item(table, column, listed, fold(_BETWEEN.join(text.text for text in listed)))


def search(question: str, items: Iterable[Item], after: Place | None, limit: int) -> tuple[list[Hit], int]:
    """The best hits after the place `after`, at most `limit` + 1, and the number of all hits.

    Items that match fewer words always come later, so they are scored only when the better hits do not fill a page.
    """
    wanted = _wanted(question)
    groups: dict[int, list[Item]] = {}
    for item in items if wanted else ():
        if matched := sum(word.is_in(item.folded) for word in wanted):
            groups.setdefault(matched, []).append(item)
    hits: list[Hit] = []
    whole = fold(question).strip()
    for matched in sorted(groups, reverse=True):
        if len(hits) <= limit and (after is None or matched <= -after[0]):
            found = sorted((_hit(wanted, whole, item, matched) for item in groups[matched]), key=lambda hit: hit.order)
            hits += (hit for hit in found if after is None or hit.order > after)
    return hits[: limit + 1], sum(map(len, groups.values()))


@dataclass(frozen=True, slots=True)
class _Word:
    """A folded word of the question. `alone`: the pattern for a word that is too short to be searched inside other words."""

    text: str
    alone: re.Pattern[str] | None

    def is_in(self, folded: str) -> bool:
        return self.text in folded and (self.alone is None or self.alone.search(folded) is not None)

    def match(self, folded: str, parts: Sequence[str]) -> int:
        """The score: a whole word, the beginning of one, or inside one; 0 when the text does not contain it."""
        if not self.is_in(folded):
            return 0
        if self.alone is not None or self.text in parts:
            return _WHOLE
        return _BEGINNING if any(part.startswith(self.text) for part in parts) else _INSIDE


def _wanted(question: str) -> list[_Word]:
    def word(text: str) -> _Word:
        short = len(text) < _MIN_PART_CHARS and text.isascii()
        return _Word(text, re.compile(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])") if short else None)

    return [word(text) for text in dict.fromkeys(words(question))]


def _hit(wanted: Sequence[_Word], whole: str, item: Item, matched: int) -> Hit:
    best = [0] * len(wanted)
    most, best_text = -1, item.texts[0]
    for text, folded in zip(item.texts, item.folded.split(_BETWEEN), strict=True):
        if not any(word.text in folded for word in wanted):
            continue
        parts, value = words(folded), _WORTH[text.field]
        found = [value * word.match(folded, parts) for word in wanted]
        worth = sum(found) + (value * _WHOLE if folded == whole else 0)
        if worth > most:
            most, best_text = worth, text
        best = list(map(max, best, found))
    bonus = _TABLE_BONUS if item.column is None else 1.0
    score = round(bonus * (sum(best) / len(best) + most))
    return Hit(matched, score, item.table, item.column, best_text.where, best_text.text)


def _of_table(facts: TableFacts, layer: SemanticLayer) -> Iterator[_Text]:
    yield _Text("name", "name", facts.name)
    yield _Text("description", "description", facts.description)
    if facts.source:
        yield _Text("path", "source", facts.source)
    for word in layer.semantics.words_of(facts.name):
        yield _Text("synonym", "synonym", word)
    for measure in layer.semantics.measures:
        if measure.table == facts.name:
            for text in (measure.name, measure.description, *measure.synonyms):
                yield _Text("option", f"measure {measure.name}", text)


def _of_column(column: Column, layer: SemanticLayer) -> Iterator[_Text]:
    yield _Text("name", "name", column.name)
    if column.comment:
        yield _Text("description", "description", column.comment)
    facts = column.facts
    if facts.get("label"):
        yield _Text("label", "label", facts["label"])
    for language, text in facts.get("translations", {}).items():
        yield _Text("translation", f"label ({language})", text)
    for option in facts.get("options", ()):
        for text in (option["value"], option.get("label", ""), *option.get("translations", {}).values()):
            yield _Text("option", f"option {option['value']}", text)
    if facts.get("path"):
        yield _Text("path", "path", "/".join(facts["path"]))
    for word in layer.semantics.words_of(column.table, column.name):
        yield _Text("synonym", "synonym", word)
    if (why := layer.pii(column)) is not None:
        yield _Text("pii", "pii", f"{PERSONAL_DATA} {why}")


def snippet(text: str, question: str) -> str:
    """The part of a long text around the first place with a word of the question."""
    wanted = words(question)
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARS:
        return line
    at = max(0, min((place for word in wanted if (place := fold(line).find(word)) >= 0), default=0) - 20)
    cut = line[at : at + _SNIPPET_CHARS]
    return f"{'...' if at else ''}{cut}{'...' if at + _SNIPPET_CHARS < len(line) else ''}"
