"""How many values of each class does a column have, in all and in the last load?"""

from collections.abc import Collection
from typing import Any

import msgspec

from explorer.tables.column_types import Kind, likeness

_MAX_EXAMPLE_CHARS = 60
# Number of different answers to a question with options that are counted separately, beside the options.
_MAX_ANSWERS = 200
_OTHER = ""


class ValueCounts(msgspec.Struct):
    """Values of one property or answer by class (`column_types.classify`), without empty ones. `latest`: of the last scan.

    `examples`: the first value of each class, shortened. `answers`: how often each choice was given, if the question has
    options; the empty text stands for all further ones.
    """

    all: dict[str, int] = {}
    latest: dict[str, int] = {}
    examples: dict[str, str] = {}
    answers: dict[str, int] = {}

    def add(self, name: str, value: str = "") -> None:
        if name not in self.all and value:
            self.examples[name] = value[:_MAX_EXAMPLE_CHARS]
        self.all[name] = self.all.get(name, 0) + 1
        self.latest[name] = self.latest.get(name, 0) + 1

    def choose(self, answer: str, options: Collection[str]) -> None:
        """Count an answer to a question with these options."""
        if answer not in self.answers and answer not in options and len(self.answers) >= _MAX_ANSWERS:
            answer = _OTHER
        self.answers[answer] = self.answers.get(answer, 0) + 1

    def forget(self) -> None:
        """Reset all counts."""
        self.all, self.latest, self.examples, self.answers = {}, {}, {}, {}


def likeness_facts(kind: Kind, seen: ValueCounts) -> dict[str, Any]:
    """Why the column is text: what most of its values are, and one that is not."""
    found = likeness(seen.all) if kind == "text" else None
    if found is None:
        return {}
    example = next((seen.examples[name] for name in sorted(found.others) if name in seen.examples), None)
    facts: dict[str, Any] = {"are": found.kind, "fitting": found.fitting, "of": found.total}
    return facts if example is None else facts | {"not": example}
