"""Which tables and columns speak of these words? In any language: names, labels, translations, options, synonyms, descriptions.

Items that hold more of the question's words come first, then those where they were found in a better place. Words are compared
without case and accents (`explorer_dagster.words`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from explorer_dagster.words import fold, words
from mcp_bridge.meaning import Meaning
from mcp_bridge.relations import Column
from mcp_bridge.tables import TableFacts

Field = Literal["name", "label", "synonym", "translation", "option", "path", "description"]
# What a match is worth by where it is, and by how much of the word it takes.
_WORTH: dict[Field, int] = {
    "name": 60, "label": 60, "synonym": 60, "translation": 50, "option": 30, "path": 20, "description": 12,
}  # fmt: skip
_WHOLE, _BEGINNING, _INSIDE = 10, 6, 3
_TABLE_BONUS = 1.2
# Shorter Latin words are found in too many others.
_MIN_PART_CHARS = 3
_SNIPPET_CHARS = 90


@dataclass(frozen=True)
class Hit:
    """A table, or a column of it. `matched`: how many of the words; `found_in`: the field that told most, `text`: its text."""

    matched: int
    score: int
    table: str
    column: str | None
    found_in: str
    text: str

    @property
    def order(self) -> tuple[int, int, str, str]:
        """Best first; the same whenever the same is asked."""
        return (-self.matched, -self.score, self.table, self.column or "")


@dataclass(frozen=True)
class _Text:
    """`where`: the field, for translations with their language."""

    field: Field
    where: str
    text: str


def search(
    question: str, tables: Iterable[TableFacts], columns: dict[str, list[Column]], meaning: Meaning
) -> list[Hit]:
    """Everything that a word of the question is found in, best first."""
    wanted = words(question)
    whole = fold(question).strip()
    hits: list[Hit] = []
    for facts in tables if wanted else ():
        hits += _hit(wanted, whole, facts.name, None, _of_table(facts, meaning), _TABLE_BONUS)
        for column in columns[facts.name]:
            hits += _hit(wanted, whole, facts.name, column.name, _of_column(column, meaning), 1.0)
    return sorted(hits, key=lambda hit: hit.order)


def _hit(
    wanted: Sequence[str], whole: str, table: str, column: str | None, texts: Iterable[_Text], bonus: float
) -> Iterator[Hit]:
    best: dict[str, int] = dict.fromkeys(wanted, 0)
    told: tuple[int, _Text] | None = None
    for text in texts:
        folded = fold(text.text)
        if not any(word in folded for word in wanted):
            continue
        found = {word: _WORTH[text.field] * _match(word, folded) for word in best}
        exact = _WORTH[text.field] * _WHOLE if folded == whole else 0
        worth = sum(found.values()) + exact
        if worth and (told is None or worth > told[0]):
            told = (worth, text)
        best = {word: max(worth, found[word]) for word, worth in best.items()}
    if told is not None:
        score = round(bonus * (sum(best.values()) / len(best) + told[0]))
        yield Hit(sum(map(bool, best.values())), score, table, column, told[1].where, _snippet(told[1].text, wanted))


def _match(word: str, text: str) -> int:
    if word not in text:
        return 0
    parts = words(text)
    if word in parts:
        return _WHOLE
    if len(word) < _MIN_PART_CHARS and word.isascii():
        return 0
    return _BEGINNING if any(part.startswith(word) for part in parts) else _INSIDE


def _of_table(facts: TableFacts, meaning: Meaning) -> Iterator[_Text]:
    yield _Text("name", "name", facts.name)
    yield _Text("description", "description", facts.description)
    if facts.source:
        yield _Text("path", "source", facts.source)
    for word in meaning.semantics.words_of(facts.name):
        yield _Text("synonym", "synonym", word)
    for measure in meaning.semantics.measures:
        if measure.table == facts.name:
            for text in (measure.name, measure.description, *measure.synonyms):
                yield _Text("option", f"measure {measure.name}", text)


def _of_column(column: Column, meaning: Meaning) -> Iterator[_Text]:
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
    for word in meaning.semantics.words_of(column.table, column.name):
        yield _Text("synonym", "synonym", word)


def _snippet(text: str, wanted: Sequence[str]) -> str:
    """The part of a long text around the first word found."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARS:
        return line
    at = max(0, min((place for word in wanted if (place := fold(line).find(word)) >= 0), default=0) - 20)
    cut = line[at : at + _SNIPPET_CHARS]
    return f"{'...' if at else ''}{cut}{'...' if at + _SNIPPET_CHARS < len(line) else ''}"
