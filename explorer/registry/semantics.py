"""What do the tables mean? The semantic layer: entities, measures, synonyms, personal data, examples; per pipeline and per
tenant.

`pipelines/<pipeline>.semantics.yml` holds for all tenants; a tenant's overlay, stored in the catalog, is applied on top. The
bridge checks whether a query or measure can run for a tenant, since only there the tenant's tables are known.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from explorer.core.errors import ExplorerError
from explorer.core.words import fold, plain, spoken
from explorer.registry.loader import read_file
from explorer.registry.models import Pipeline

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True)]
_Words = Annotated[tuple[_Word, ...], Field(max_length=50)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
_Sql = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True)]
_Pattern = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class SemanticsInvalid(ExplorerError):
    """A part of the semantic layer is unusable: unknown keys, wrong values, or SQL that may not run."""

    code = "semantics_invalid"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entity(_Part):
    """What a row of `table` is, in the users' words."""

    name: _Name
    table: _Name
    key: _Name
    description: _Text
    synonyms: _Words = ()


class Measure(_Part):
    """A number that people ask for: `sql` is an aggregate over the columns of `table`."""

    name: _Name
    table: _Name
    sql: _Sql
    description: _Text
    synonyms: _Words = ()


class Synonyms(_Part):
    """Other words for a table, or for one column of it, in any language."""

    table: _Name
    column: _Name | None = None
    words: _Words = Field(min_length=1)


class PersonalData(_Part):
    """Which columns hold data of a person (`pii: false`: which do not). A rule fits when all its parts fit; the last fitting rule
    decides.

    `table`, `column`, `type`, `label` and `question_type` (such as PhoneNumber) are patterns with `*` and `?`. `label` is
    compared with the question's label and its translations after `words.plain`. `words`: one of these words or phrases is in the
    column's name (split into words) or in a label; `unless`: and none of these is. A `*` in a word stands for any letters. A
    rule with words is about texts that people type: it fits neither answers chosen from a list nor yes and no.
    """

    table: _Pattern = "*"
    column: _Pattern | None = None
    label: _Pattern | None = None
    type: _Pattern | None = None
    question_type: _Pattern | None = None
    words: Annotated[tuple[_Word, ...], Field(max_length=600)] = ()
    unless: Annotated[tuple[_Word, ...], Field(max_length=600)] = ()
    pii: bool = True
    why: _Text = "Personal data."

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if (self.column, self.label, self.type, self.question_type, self.words) == (None, None, None, None, ()):
            raise ValueError("one of column, label, type, question_type and words is needed")
        return self


_CHOSEN = frozenset({"Select", "MSelect", "Trigger"})


@dataclass(frozen=True)
class _Candidate:
    """A column to be tested. `labels`: plain and folded; `said`: its name and labels, as words."""

    table: str
    column: str
    type: str
    question_type: str
    labels: tuple[str, ...]
    said: tuple[tuple[str, frozenset[str]], ...]

    @property
    def is_chosen(self) -> bool:
        return self.type == "boolean" or self.question_type in _CHOSEN


class _Rule:
    """A rule of personal data, prepared for testing every column of every table."""

    def __init__(self, rule: PersonalData) -> None:
        self.why = rule.why if rule.pii else None
        self._column, self._table, self._type = map(_matcher, (rule.column, rule.table, rule.type))
        self._question_type = _matcher(rule.question_type)
        self._label = _matcher(fold(rule.label) if rule.label else None)
        self._words, self._unless = _Phrases(rule.words), _Phrases(rule.unless)
        self._by_words = bool(rule.words)

    def fits(self, asked: _Candidate) -> bool:
        return (
            (self._column is None or self._column(asked.column) is not None)
            and (self._type is None or self._type(asked.type) is not None)
            and (self._question_type is None or self._question_type(asked.question_type) is not None)
            and (self._table is None or self._table(asked.table) is not None)
            and (self._label is None or any(map(self._label, asked.labels)))
            and (not self._by_words or (not asked.is_chosen and self._words.are_in(asked.said)))
            and not self._unless.are_in(asked.said)
        )


class _Phrases:
    """Words and phrases to look for in texts; single words, the common case, are found without scanning the texts."""

    def __init__(self, phrases: Iterable[str]) -> None:
        parts = [_words_of_pattern(phrase) for phrase in phrases]
        self._words = frozenset(words[0] for words in parts if len(words) == 1 and "*" not in words[0])
        rest = [" ".join(words) for words in parts if len(words) > 1 or "*" in words[0]]
        pattern = "|".join(re.escape(phrase).replace(r"\*", r"\S*").replace(r"\ ", " ") for phrase in rest)
        self._phrases = re.compile(f"(?:^| )(?:{pattern})(?: |$)") if rest else None

    def are_in(self, said: Iterable[tuple[str, frozenset[str]]]) -> bool:
        """Whether one of them is in one of the texts."""
        return any(
            not self._words.isdisjoint(words) or (self._phrases is not None and self._phrases.search(text) is not None)
            for text, words in said
        )


def _words_of_pattern(phrase: str) -> list[str]:
    """The words of a phrase with their `*`, which `words` would drop."""
    return [part.replace("\0", "*") for part in spoken(phrase.replace("*", "\0"))]


@lru_cache(maxsize=2000)
def _rule(rule: PersonalData) -> _Rule:
    """Cached: a pipeline's rule is the same for all tenants."""
    return _Rule(rule)


def _matcher(pattern: str | None) -> Callable[[str], re.Match[str] | None] | None:
    return None if pattern is None or pattern == "*" else re.compile(translate(pattern)).match


class Example(_Part):
    """A question and the query that answers it."""

    question: _Text
    sql: _Sql


class Semantics(_Part):
    """The semantic layer of a pipeline, or the overlay of a tenant."""

    entities: tuple[Entity, ...] = Field((), max_length=200)
    measures: tuple[Measure, ...] = Field((), max_length=200)
    synonyms: tuple[Synonyms, ...] = Field((), max_length=1000)
    personal_data: tuple[PersonalData, ...] = Field((), max_length=500)
    examples: tuple[Example, ...] = Field((), max_length=100)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for what, names in (
            ("entity", [entity.name for entity in self.entities]),
            ("measure", [measure.name for measure in self.measures]),
            ("question", [example.question for example in self.examples]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} given twice: {', '.join(twice)}")
        return self

    def under(self, overlay: "Semantics") -> "Semantics":
        """This layer with `overlay` on top: entries with the same name (or question) are replaced, rules and synonyms are
        added."""
        return Semantics.model_construct(
            entities=_replaced(self.entities, overlay.entities, "name"),
            measures=_replaced(self.measures, overlay.measures, "name"),
            synonyms=self.synonyms + overlay.synonyms,
            personal_data=self.personal_data + overlay.personal_data,
            examples=_replaced(self.examples, overlay.examples, "question"),
        )

    def personal(
        self, table: str, column: str, type_: str, labels: Iterable[str] = (), question_type: str | None = None
    ) -> str | None:
        """Why a column counts as personal data; None when it does not."""
        plain_labels = tuple(dict.fromkeys(plain(label) for label in labels))
        said = [spoken(text) for text in (column, *plain_labels)]
        asked = _Candidate(
            table,
            column,
            type_,
            question_type or "",
            plain_labels,
            tuple((" ".join(found), frozenset(found)) for found in said),
        )
        return next((rule.why for rule in self._rules if rule.fits(asked)), None)

    @cached_property
    def _rules(self) -> list[_Rule]:
        """The rules, last one first: it decides."""
        return [_rule(rule) for rule in reversed(self.personal_data)]

    def words_of(self, table: str, column: str | None = None) -> list[str]:
        """Synonyms of a table, or of one of its columns."""
        return self._words.get((table, column), [])

    @cached_property
    def _words(self) -> dict[tuple[str, str | None], list[str]]:
        found: dict[tuple[str, str | None], list[str]] = {}
        for entity in self.entities:
            found.setdefault((entity.table, None), []).extend((entity.name, *entity.synonyms))
        for synonym in self.synonyms:
            found.setdefault((synonym.table, synonym.column), []).extend(synonym.words)
        return found

    def as_dict(self) -> dict[str, Any]:
        """The input of `parse_semantics`, without default values."""
        return self.model_dump(mode="json", exclude_defaults=True)


_P = TypeVar("_P", Entity, Measure, Example)


def _replaced(below: tuple[_P, ...], above: tuple[_P, ...], key: str) -> tuple[_P, ...]:
    found = {getattr(part, key): part for part in below} | {getattr(part, key): part for part in above}
    return tuple(found.values())


def parse_semantics(data: Any) -> Semantics:
    """The semantic layer in plain data, such as a tenant's overlay.

    Raises:
        SemanticsInvalid: the first faults, each with its key; unknown keys are faults.
    """
    try:
        return Semantics.model_validate(data)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'semantics'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:5]
        ]
        raise SemanticsInvalid(
            f"{'; '.join(faults)}.",
            next_step="Correct the named keys; docs/semantics.md lists them.",
            details={"keys": list(Semantics.model_fields)},
        ) from None


def load_semantics(folder: Path, pipeline: Pipeline) -> Semantics:
    """The content of `folder/<pipeline>.semantics.yml`; empty when there is no such file.

    Raises:
        PipelineInvalid: names the file, the line and the key of the first faults.
    """
    path = folder / f"{pipeline.name}.semantics.yml"
    return read_file(path, Semantics) if path.is_file() else Semantics()
