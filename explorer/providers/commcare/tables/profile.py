"""What do a tenant's raw rows hold beyond its applications, and how were its generated tables stored?

Case types, properties, indices, forms, answers, repeats and places of case blocks, with the kinds of their values. The profile
only grows (`scan` reads only rows loaded since), so that a column does not vanish because its values did. The layout of tables
stays as well (`tables.memory`).

The tenant's bookkeeping stores it. A profile of older rules keeps its names, places and questions; all values are then scanned
again.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Self

import msgspec

from explorer.contract.bookkeeping import profile as kept_profile
from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.providers.commcare.structure import Form, Question
from explorer.providers.commcare.tables.paths import Path, key_of, path_of, repeat_source
from explorer.tables.column_types import Counts, Kind, settle
from explorer.tables.memory import ColumnMemory, TableMemory
from explorer.tables.value_counts import ValueCounts

# Raise this when values are classified by other rules, or when the scan looks for more.
_VERSION = 3
# Up to this one values are counted otherwise.
_RECOUNTED = 1


_MAX_TYPE_CHANGES = 200
_EXACT = "Numbers are kept exactly now, as they came."
_SEVERAL = "A property of a question with several choices is an array now, as the answers in forms are."


class CaseTypeProfile(msgspec.Struct):
    """Properties and index identifiers of one case type. `differing`: properties whose value differs from the case's own field
    of the same name."""

    properties: dict[str, ValueCounts] = {}
    indices: set[str] = set()
    differing: set[str] = set()


class FormProfile(msgspec.Struct):
    """A form by its submissions: its latest name; answers, repeats, answers that were lists, and places of case blocks (`case`
    included), by their keys below the root (`key_of`)."""

    name: str
    answers: dict[str, ValueCounts] = {}
    repeats: set[str] = set()
    lists: set[str] = set()
    blocks: set[str] = set()


class _MadeBy(msgspec.Struct):
    """The rules that a stored profile was made by; the first versions did not store them."""

    version: int = 1


class Profile(msgspec.Struct):
    """What was found in the raw tables up to `cases_until` and `forms_until` (ISO times of loading).

    `forms_known`: every form that an application ever had, with all its questions. `tables`: by kind and source. `type_changes`:
    the latest ones, oldest first; `unreported`: how many of them no run has reported yet. `version`: of the rules that values
    were classified by.
    """

    version: int = _VERSION
    cases_until: str = "-infinity"
    forms_until: str = "-infinity"
    case_types: dict[str, CaseTypeProfile] = {}
    forms: dict[str, FormProfile] = {}
    forms_known: dict[str, Form] = {}
    tables: dict[str, TableMemory] = {}
    type_changes: list[TypeChange] = msgspec.field(default_factory=list, name="migrations")
    unreported: int = msgspec.field(default=0, name="untold")

    @classmethod
    def read(cls, connection: Connection, schemas: TenantSchemas) -> Self:
        """The tenant's profile; an empty one when there is none or it cannot be read: everything is then scanned again."""
        document = kept_profile.read(connection, schemas)
        return cls.from_json(document) if document else cls()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """A stored profile, upgraded to the current rules; an empty one when it cannot be read."""
        try:
            profile = msgspec.json.decode(text, type=cls)
            made_by = msgspec.json.decode(text, type=_MadeBy).version
        except msgspec.DecodeError:
            return cls()
        if made_by <= _RECOUNTED:
            profile._begin_anew()
        if made_by < _VERSION:
            profile._take_choices_as_arrays()
        profile.version = _VERSION
        return profile

    def write(self, connection: Connection, schemas: TenantSchemas) -> None:
        """Store the profile."""
        kept = msgspec.structs.replace(self, type_changes=self.type_changes[-max(_MAX_TYPE_CHANGES, self.unreported) :])
        kept_profile.write(connection, schemas, msgspec.json.encode(kept).decode("utf-8"))

    @property
    def unreported_changes(self) -> tuple[TypeChange, ...]:
        """Type changes that no run has reported yet, including those of killed runs."""
        return tuple(self.type_changes[len(self.type_changes) - self.unreported :])

    @classmethod
    def mark_reported(cls, connection: Connection, schemas: TenantSchemas) -> None:
        """Record that the type changes so far were reported."""
        profile = cls.read(connection, schemas)
        profile.unreported = 0
        profile.write(connection, schemas)

    def remember(self, form: Form) -> None:
        """Remember the questions of `form`, even when they leave it."""
        before = self.forms_known.get(form.xmlns)
        paths = {question.path for question in form.questions}
        gone = tuple(question for question in before.questions if question.path not in paths) if before else ()
        self.forms_known[form.xmlns] = msgspec.structs.replace(form, questions=(*form.questions, *gone))

    def settle(self, table: str, memory: TableMemory, column: str, declared: Kind | None, seen: ValueCounts) -> Kind:
        """Decide a column's type and remember it; a change is added to `type_changes`. `table`: its name, for people."""
        is_new = column not in memory.columns
        remembered = memory.columns.setdefault(column, ColumnMemory())
        before, after = remembered.kind, settle(declared, remembered.kind, seen.all, seen.latest)
        previous, now = remembered.previous_type or before or "text", after or "text"
        # Older rules had another SQL type for the same kind.
        is_other_now = bool(remembered.previous_type) and before == after
        of_rules = _SEVERAL if after == "choices" else _EXACT
        if (previous != now or is_other_now) and not is_new:
            reason = of_rules if is_other_now else _reason(before, declared, seen.all)
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self.type_changes.append(
                TypeChange(
                    table=table,
                    column=column,
                    before=previous,
                    after="numeric" if is_other_now and of_rules is _EXACT else now,
                    at=at,
                    reason=reason,
                )
            )
            self.unreported += 1
        remembered.kind, remembered.previous_type = after, ""
        return after or "text"

    def memory(self, kind: str, source: str) -> TableMemory:
        """What is remembered of the table of this kind and source; callers change it in place."""
        return self.tables.setdefault(f"{kind} {source}", TableMemory())

    def used_names(self, but_to: Iterable[TableMemory]) -> set[str]:
        """All names that tables and their parts ever had, except those of `but_to`."""
        own = {memory.name for memory in but_to}
        return {name for memory in self.tables.values() for name in (memory.name, *memory.parts.values())} - own - {""}

    def _begin_anew(self) -> None:
        """Scan all rows again by the current rules. Names and places stay known."""
        self.cases_until = self.forms_until = "-infinity"
        for values in self.values():
            values.forget()
        for table in self.tables.values():
            for column in table.columns.values():
                column.previous_type = "double precision" if column.kind in ("decimal", "geopoint") else ""
        repeats = self.repeats_with_tables()
        for form in self.forms_known.values():
            places = [self.memory("form", form.xmlns)]
            places += [self.memory("repeat", repeat_source(form.xmlns, path)) for path in repeats.get(form.xmlns, ())]
            for question in form.questions:
                for place in places:
                    if (known := place.columns.get(key_of(question.path))) is not None:
                        known.learn(question)

    def _take_choices_as_arrays(self) -> None:
        """Older rules kept properties of multiple-select questions as text. Where questions of other types have the same
        property, `settle` makes it text again, and nothing has changed."""
        for name, table in self.tables.items():
            if name.startswith("case_type "):
                for column in table.columns.values():
                    if column.kind == "text" and column.types == ["MSelect"]:
                        column.kind, column.previous_type = "choices", "text"

    def repeats_with_tables(self) -> dict[str, list[Path]]:
        """xmlns to the repeat groups that ever had a table."""
        found: dict[str, list[Path]] = {}
        for table in self.tables:
            kind, _, source = table.partition(" ")
            if kind == "repeat":
                xmlns, _, key = source.rpartition(" ")
                found.setdefault(xmlns, []).append(path_of(key))
        return found

    def former_questions(self, xmlns: str) -> dict[Path, Question]:
        """All questions that a form ever had."""
        known = self.forms_known.get(xmlns)
        return {question.path: question for question in known.questions} if known else {}

    def values(self) -> Iterator[ValueCounts]:
        """The value counts of all properties and answers."""
        for case_type in self.case_types.values():
            yield from case_type.properties.values()
        for form in self.forms.values():
            yield from form.answers.values()


def _reason(before: Kind | None, declared: Kind | None, seen: Counts) -> str:
    if before is None:
        return f"The {sum(seen.values())} values seen tell the type."
    if declared not in (None, before):
        return f"The application declares {declared} now."
    listed = ", ".join(f"{count} {name}" for name, count in sorted(seen.items()))
    if declared is None:
        return f"No application declares a type, and not every value is a {before} that is given back as it came; seen: {listed}."
    return f"Too many values did not fit {before}; seen: {listed}."
