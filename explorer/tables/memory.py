"""How was a table stored before: its name, and the names, types and parts of its columns?

Memory only grows, so that nothing is lost or renamed. Field names of the stored document are those of its first version.
Everything derived from a definition comes from the union of all definitions (`ColumnMemory.learn`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from explorer.tables.column_types import Kind
from explorer.tables.values import Option


class Definition(Protocol):
    """The source's current definition of a column."""

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
    """How one question or property was stored: its type (None: still undecided) and the part of its table (0: none); and the
    union of its definitions.

    `previous_type`: the SQL type of older rules, until the change is reported. `types`: the source's type names, the latest last;
    `options`: current ones, then removed ones; `removed`: option value to since when it is removed, in words.
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
    """Since when no application has the question, in words."""

    def learn(self, question: Definition, since: str = "") -> None:
        """Add a definition. `since`: since when other options are removed, in words."""
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
    """How one source was stored. `columns`: by question or property; `names`: column key to wanted and given name; `parts`:
    names of the tables that continue it; `watched`: parts that report unfit values; `former`: its earlier names; `main_case`:
    place of the block whose case is `case_id`, if that is not the root; `cases`: places of case blocks with a column."""

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
        """Set the current name."""
        if self.name not in ("", name):
            self.former.append(self.name)
        self.wish, self.name = wish, name
