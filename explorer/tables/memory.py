"""What was a table once given: its name, its columns, their names, types and parts?

Memory only grows, so that nothing is lost or renamed. Names of fields in the kept document are those of its first version.
Whatever is derived from a definition is derived from the union of all of them (`ColumnMemory.learn`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from explorer.tables.column_types import Kind
from explorer.tables.values import Option


class Definition(Protocol):
    """How the source defines a column at present."""

    @property
    def path(self) -> tuple[str, ...]: ...
    @property
    def label(self) -> str: ...
    @property
    def type(self) -> str | None: ...
    @property
    def translations(self) -> Mapping[str, str]: ...
    @property
    def options(self) -> Sequence[Option]: ...


class ColumnMemory(msgspec.Struct, omit_defaults=True):
    """How one question or property was stored: its type (None: nothing told it yet) and in which part of its table (0: none); and
    the union of its definitions.

    `previous_type`: the SQL type that older rules gave it, where it is another one now; until that is reported. `types`: the
    source's names, the latest last; `options`: those of now, then those that were removed; `removed`: since when, by the option's
    value, in words.
    """

    kind: Kind | None = None
    part: int = 0
    previous_type: str = msgspec.field(default="", name="was")
    label: str = ""
    translations: dict[str, str] = {}
    types: list[str] = []
    options: list[Option] = []
    removed: dict[str, str] = {}
    left: str = ""
    """Since when no application has the question (any more), in words."""

    def learn(self, question: Definition, since: str = "") -> None:
        """Take in a definition. `since`: what is said of options that it has no longer."""
        if question.label and (question.label != question.path[-1] or not self.label):
            self.label = question.label
        self.translations = {**self.translations, **question.translations}
        if question.type:
            self.types = [*(known for known in self.types if known != question.type), question.type]
        present = {option.value for option in question.options}
        gone = [option for option in self.options if option.value not in present]
        self.options = [*question.options, *gone]
        self.removed = {value: when for value, when in self.removed.items() if value not in present}
        for option in gone:
            if since:
                self.removed.setdefault(option.value, since)


class TableMemory(msgspec.Struct, omit_defaults=True):
    """How one source was stored. `columns`: by question or property; `names`: column key to the name wished for and given;
    `parts`: names of the tables that continue it; `watched`: parts that tell what does not fit; `former`: names that it had
    before; `main_case`: where the block stands whose case is its `case_id`, if that is not the root; `cases`: places of case
    blocks that have a column."""

    wish: str = ""
    name: str = ""
    columns: dict[str, ColumnMemory] = {}
    names: dict[str, tuple[str, str]] = {}
    parts: dict[int, str] = {}
    watched: set[int] = set()
    former: list[str] = []
    main_case: str = ""
    cases: set[str] = set()

    def take(self, wish: str, name: str) -> None:
        """Have this name from now on."""
        if self.name not in ("", name):
            self.former.append(self.name)
        self.wish, self.name = wish, name
