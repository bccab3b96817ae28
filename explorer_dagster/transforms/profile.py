"""What do a tenant's raw tables hold beyond what its applications describe, and what did its generated tables look like before?

Case types, properties, indices, forms, answers and repeats, with the kinds of values they have. What was seen once stays known:
only rows loaded since the last look are read, and a column does not vanish because its values did. Questions that left an
application stay known too, and so do names and types of columns, which is what makes them stable.

It is kept in the tenant's staging schema, beside the tables it speaks of.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
import psycopg
from psycopg import sql

from explorer_dagster.commcare.structure import Form, Question
from explorer_dagster.transforms.column_types import KINDS, Counts, Kind, classify, settle

_TABLE = "explorer_profile"
_BATCH = 2_000
_NOT_ANSWERS = frozenset({"case", "meta", "commcare_usercase", "#type", "#text"})
# Attributes that say what an entry is about: those of repeats over a list of cases, and of blocks that change stocks (ledgers).
_ATTRIBUTES = {
    "@id": "Identifier of what the entry is about, such as a case or a product.",
    "@quantity": "Quantity.",
    "@date": "Date.",
    "@entity-id": "Case or location that the stock belongs to.",
    "@section-id": "Section of the stock.",
    "@src": "Case or location that the stock leaves.",
    "@dest": "Case or location that the stock goes to.",
}
_NO_APP = "no application"
_MAX_MIGRATIONS = 200

Connection = psycopg.Connection[tuple[Any, ...]]
Path = tuple[str, ...]


class SeenValues(msgspec.Struct):
    """Values of one property or answer by class (`column_types.classify`), blank ones left out. `latest`: of the last look."""

    all: dict[str, int] = {}
    latest: dict[str, int] = {}

    def add(self, name: str) -> None:
        self.all[name] = self.all.get(name, 0) + 1
        self.latest[name] = self.latest.get(name, 0) + 1


class SeenCaseType(msgspec.Struct):
    """Properties and index identifiers that cases of one type have."""

    properties: dict[str, SeenValues] = {}
    indices: set[str] = set()


class SeenForm(msgspec.Struct):
    """A form by its submissions: its latest name; answers and repeats by their keys below the root, joined by `/`."""

    name: str
    answers: dict[str, SeenValues] = {}
    repeats: set[str] = set()


class ColumnMemory(msgspec.Struct):
    """How one question or property was stored: its type (None: nothing told it yet) and in which part of its table (0: none)."""

    kind: Kind | None = None
    part: int = 0


class TableMemory(msgspec.Struct):
    """How one source was stored. `columns`: by question or property; `names`: column key to the name wished for and given."""

    wish: str = ""
    name: str = ""
    columns: dict[str, ColumnMemory] = {}
    names: dict[str, tuple[str, str]] = {}


class Migration(msgspec.Struct, frozen=True):
    """A column whose type changed. `before`, `after`: as in `column_types`; `at`: ISO time; `reason`: a sentence for people."""

    table: str
    column: str
    before: str
    after: str
    at: str
    reason: str


class RawProfile(msgspec.Struct):
    """Everything seen in the raw tables up to `cases_until` and `forms_until` (ISO times of loading).

    `forms_known`: every form that an application ever had, with all questions it ever had. `tables`: by kind and source.
    `migrations`: the latest ones, oldest first.
    """

    cases_until: str = "-infinity"
    forms_until: str = "-infinity"
    case_types: dict[str, SeenCaseType] = {}
    forms: dict[str, SeenForm] = {}
    forms_known: dict[str, Form] = {}
    tables: dict[str, TableMemory] = {}
    migrations: list[Migration] = []

    @classmethod
    def read(cls, connection: Connection, staging_schema: str) -> Self:
        """The profile kept in the schema; an empty one when none there can be read: everything is then looked at again."""
        connection.execute(
            sql.SQL("create table if not exists {} (profile text not null)").format(
                sql.Identifier(staging_schema, _TABLE)
            )
        )
        row = connection.execute(
            sql.SQL("select profile from {}").format(sql.Identifier(staging_schema, _TABLE))
        ).fetchone()
        try:
            return msgspec.json.decode(row[0], type=cls) if row else cls()
        except msgspec.DecodeError:
            return cls()

    def write(self, connection: Connection, staging_schema: str) -> None:
        """Keep the profile in the schema."""
        table = sql.Identifier(staging_schema, _TABLE)
        connection.execute(sql.SQL("delete from {}").format(table))
        connection.execute(
            sql.SQL("insert into {} values (%s)").format(table), [msgspec.json.encode(self).decode("utf-8")]
        )

    def look(self, connection: Connection, raw_schema: str, forms: Iterable[Form]) -> None:
        """Take in what was loaded since the last look, and the `forms` of the applications."""
        for form in forms:
            self.remember(form)
        for values in self._values():
            values.latest = {}
        if _exists(connection, raw_schema, "raw_cases"):
            self._look_at_cases(connection, sql.Identifier(raw_schema, "raw_cases"))
        if _exists(connection, raw_schema, "raw_forms"):
            self._look_at_forms(connection, sql.Identifier(raw_schema, "raw_forms"))

    def remember(self, form: Form) -> None:
        """Know the questions of `form` from now on, also when they leave it."""
        before = self.forms_known.get(form.xmlns)
        paths = {question.path for question in form.questions}
        gone = tuple(question for question in before.questions if question.path not in paths) if before else ()
        self.forms_known[form.xmlns] = msgspec.structs.replace(form, questions=(*form.questions, *gone))

    def complete(self, forms: Iterable[Form]) -> Iterator[Form]:
        """`forms` of the applications with what only the data show: answers of questions that left the form or were never in it,
        and whole forms that are in no application (any more)."""
        current = {form.xmlns: form for form in forms}
        for xmlns in sorted({*current, *self.forms}):
            form = current.get(xmlns) or self._outside_of_applications(xmlns)
            seen = self.forms.get(xmlns)
            extra = self._unasked(form, seen) if seen else ()
            yield msgspec.structs.replace(form, questions=(*form.questions, *extra)) if extra else form

    def settle(self, table: str, memory: TableMemory, column: str, declared: Kind | None, seen: SeenValues) -> Kind:
        """The type of a column, which is remembered; a change is kept in `migrations`. `table`: its name, for people."""
        is_new = column not in memory.columns
        remembered = memory.columns.setdefault(column, ColumnMemory())
        before, after = remembered.kind, settle(declared, remembered.kind, seen.all, seen.latest)
        if (before or "text") != (after or "text") and not is_new:
            reason = _reason(before, declared, seen.all)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.migrations.append(Migration(table, column, before or "text", after or "text", now, reason))
            del self.migrations[:-_MAX_MIGRATIONS]
        remembered.kind = after
        return after or "text"

    def memory(self, kind: str, source: str) -> TableMemory:
        """What is remembered of the table of this kind and source; to be changed in place."""
        return self.tables.setdefault(f"{kind} {source}", TableMemory())

    def _values(self) -> Iterator[SeenValues]:
        for case_type in self.case_types.values():
            yield from case_type.properties.values()
        for form in self.forms.values():
            yield from form.answers.values()

    def _look_at_cases(self, connection: Connection, table: sql.Identifier) -> None:
        since, until = self.cases_until, _latest(connection, table, self.cases_until)
        query = sql.SQL(
            "select case_type, (record -> 'properties')::text, (record -> 'indices')::text from {table}"
            " where _loaded_at > {since} and _loaded_at <= {until} and case_type is not null"
        ).format(table=table, since=sql.Literal(since), until=sql.Literal(until))
        for case_type, properties, indices in _stream(connection, query):
            seen = self.case_types.setdefault(case_type, SeenCaseType())
            seen.indices.update(_object(indices))
            for name, value in _object(properties).items():
                values = seen.properties.get(name)
                if values is None:
                    values = seen.properties[name] = SeenValues()
                if value not in ("", None) and (found := classify(_text(value))) != "blank":
                    values.add(found)
        self.cases_until = until

    def _look_at_forms(self, connection: Connection, table: sql.Identifier) -> None:
        since, until = self.forms_until, _latest(connection, table, self.forms_until)
        query = sql.SQL(
            "select record #>> '{{form,@xmlns}}', received_on, (record -> 'form')::text from {table}"
            " where _loaded_at > {since} and _loaded_at <= {until} and record #>> '{{form,@xmlns}}' <> ''"
        ).format(table=table, since=sql.Literal(since), until=sql.Literal(until))
        walks: dict[str, _Walk] = {}
        for xmlns, received_on, text in _stream(connection, query):
            if xmlns not in walks:
                seen = self.forms.setdefault(xmlns, SeenForm(xmlns.rstrip("/").rsplit("/", 1)[-1] or xmlns))
                walks[xmlns] = _Walk(seen, self.forms_known.get(xmlns))
            walks[xmlns].take(_object(text), received_on)
        self.forms_until = until

    def _outside_of_applications(self, xmlns: str) -> Form:
        known = self.forms_known.get(xmlns)
        if known is not None:
            return msgspec.structs.replace(known, questions=(), app_id="", app_name=_NO_APP, app_ids=())
        return Form(
            xmlns,
            name={},
            title=self.forms[xmlns].name,
            app_id="",
            app_name=_NO_APP,
            module="",
            case_type=None,
            questions=(),
        )

    def _unasked(self, form: Form, seen: SeenForm) -> Iterable[Question]:
        """Questions for the repeats and answers that submissions have and `form` does not."""
        declared = {question.path: question for question in form.questions}
        known = self.forms_known.get(form.xmlns)
        former = {question.path: question for question in known.questions} if known else {}
        repeats = {path for path, question in declared.items() if question.type == "Repeat"}
        repeats |= {question.repeat for question in form.questions if question.repeat}
        repeats |= {tuple(path.split("/")) for path in seen.repeats}
        # An answer whose question left the form stays in the repeat that it was asked in.
        left = [
            former[path] for key in seen.answers if (path := tuple(key.split("/"))) in former and path not in declared
        ]
        once = {question.repeat for question in former.values() if question.repeat}
        repeats |= {
            prefix for question in left for prefix in once if question.path[: len(prefix)] == prefix != question.path
        }
        extra = [
            Question(path, label=path[-1], type="Repeat", repeat=_around(path, repeats), is_group=True)
            for path in sorted(repeats)
            if path not in declared or declared[path].type != "Repeat"
        ]
        for key in sorted(seen.answers):
            path = tuple(key.split("/"))
            question, around = declared.get(path), _around(path, repeats)
            if question is not None and not question.is_group and question.repeat == around:
                continue
            # A repeat group may have been a question before.
            former_question = former.get(path)
            is_asked = former_question is not None and not former_question.is_group
            label = _ATTRIBUTES.get(path[-1], path[-1])
            base = former_question if former_question and is_asked else Question(path, label=label)
            extra.append(msgspec.structs.replace(base, repeat=around))
        return extra


class _Spot:
    """One node of a form's answers during a look."""

    __slots__ = ("children", "is_counted", "path", "values")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.children: dict[str, _Spot | None] = {}
        self.values: SeenValues | None = None
        self.is_counted = True


class _Walk:
    """Goes through submissions of one form and notes what they hold. Values of questions that are text anyway are not counted."""

    def __init__(self, seen: SeenForm, known: Form | None) -> None:
        self._seen = seen
        self._named_at: datetime | None = None
        self._root = _Spot(())
        for question in known.questions if known else ():
            spot = self._root
            for length in range(len(question.path)):
                child = spot.children.setdefault(question.path[length], _Spot(question.path[: length + 1]))
                spot = child or spot
            spot.is_counted = KINDS.get(question.type, "text") not in ("text", "choices", "geopoint")

    def take(self, form: dict[str, Any], received_on: datetime | None) -> None:
        name = form.get("@name")
        is_later = self._named_at is None or (received_on is not None and received_on >= self._named_at)
        if isinstance(name, str) and name and is_later:
            self._seen.name, self._named_at = name, received_on
        self._object(form, self._root)

    def _object(self, node: dict[str, Any], spot: _Spot) -> None:
        for key, value in node.items():
            child = spot.children.get(key, spot)
            if child is spot:
                is_fact = key in _ATTRIBUTES and spot.path
                skipped = key in _NOT_ANSWERS or (key.startswith("@") and not is_fact)
                child = spot.children[key] = None if skipped else _Spot((*spot.path, key))
            if child is not None and value not in ("", None):
                self._value(value, child)

    def _value(self, value: Any, spot: _Spot) -> None:
        if isinstance(value, dict):
            self._object(value, spot)
            value = value.get("#text")
            if value in ("", None):
                return
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            self._seen.repeats.add("/".join(spot.path))
            for item in value:
                if isinstance(item, dict):
                    self._object(item, spot)
            return
        elif isinstance(value, list) and not any(value):
            return
        found = classify(_text(value)) if spot.is_counted else "text"
        if found == "blank":
            return
        if spot.values is None:
            spot.values = self._seen.answers.setdefault("/".join(spot.path), SeenValues())
        if spot.is_counted or not spot.values.all:
            spot.values.add(found)


def _stream(connection: Connection, query: sql.Composed) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(name="look") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(query)
        yield from cursor


def _object(text: str | None) -> dict[str, Any]:
    value = msgspec.json.decode(text) if text else None
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _exists(connection: Connection, schema: str, table: str) -> bool:
    row = connection.execute(
        "select exists (select from pg_tables where schemaname = %s and tablename = %s)", [schema, table]
    ).fetchone()
    return row == (True,)


def _latest(connection: Connection, table: sql.Identifier, since: str) -> str:
    row = connection.execute(sql.SQL("select max(_loaded_at)::text from {}").format(table)).fetchone()
    return since if row is None or row[0] is None else str(row[0])


def _around(path: Path, repeats: set[Path]) -> Path | None:
    prefixes = [path[:length] for length in range(len(path) - 1, 0, -1)]
    return next((prefix for prefix in prefixes if prefix in repeats), None)


def _reason(before: Kind | None, declared: Kind | None, seen: Counts) -> str:
    if before is None:
        return f"The {sum(seen.values())} values seen tell the type."
    if declared not in (None, before):
        return f"The application declares {declared} now."
    listed = ", ".join(f"{count} {name}" for name, count in sorted(seen.items()))
    return f"Too many values did not fit {before}; seen: {listed}."
