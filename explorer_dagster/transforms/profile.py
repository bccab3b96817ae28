"""What do a tenant's raw tables hold beyond what its applications describe, and what did its generated tables look like before?

Case types, properties, indices, forms, answers and repeats, with the kinds of values they have. What was seen once stays known:
only rows loaded since the last look are read, and a column does not vanish because its values did. Questions that left an
application stay known too, and so do names and types of columns, which is what makes them stable.

It is kept in the tenant's staging schema, beside the tables it speaks of. One that was made by older rules keeps what it knows of
names, places and questions; values are looked at anew, all of them.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
import psycopg
from psycopg import sql

from explorer_dagster.commcare.structure import Form, Question
from explorer_dagster.transforms.column_types import KINDS, Counts, Kind, classify, settle

_TABLE = "explorer_profile"
_BATCH = 2_000
# Raised when values are classed by other rules.
_VERSION = 2
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
_EXACT = "Numbers are kept exactly now, as they came."
_MAX_EXAMPLE_CHARS = 60
# Different answers to one question with options that are counted by themselves, beside the options.
_MAX_ANSWERS = 200
_OTHER = ""
# Numbers keep the text that came.
_decode = msgspec.json.Decoder(float_hook=str).decode

Connection = psycopg.Connection[tuple[Any, ...]]
Path = tuple[str, ...]


class SeenValues(msgspec.Struct):
    """Values of one property or answer by class (`column_types.classify`), empty ones left out. `latest`: of the last look.

    `examples`: the first value of each class, cut short. `answers`: how often each choice was given, where the question has
    options; under the empty text those of which there are too many to tell apart.
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
        """As if none had been seen."""
        self.all, self.latest, self.examples, self.answers = {}, {}, {}, {}


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
    """How one question or property was stored: its type (None: nothing told it yet) and in which part of its table (0: none).

    `was`: the SQL type that older rules gave it, where it is another one now; until that is told.
    """

    kind: Kind | None = None
    part: int = 0
    was: str = ""


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


class _MadeBy(msgspec.Struct):
    """Which rules a kept profile was made by; the first ones did not say."""

    version: int = 1


class RawProfile(msgspec.Struct):
    """Everything seen in the raw tables up to `cases_until` and `forms_until` (ISO times of loading).

    `forms_known`: every form that an application ever had, with all questions it ever had. `tables`: by kind and source.
    `migrations`: the latest ones, oldest first; `untold`: how many of them no run has reported so far. `version`: of the
    rules that values were classed by.
    """

    version: int = _VERSION
    cases_until: str = "-infinity"
    forms_until: str = "-infinity"
    case_types: dict[str, SeenCaseType] = {}
    forms: dict[str, SeenForm] = {}
    forms_known: dict[str, Form] = {}
    tables: dict[str, TableMemory] = {}
    migrations: list[Migration] = []
    untold: int = 0

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
            profile = msgspec.json.decode(row[0], type=cls) if row else cls()
            made_by = msgspec.json.decode(row[0], type=_MadeBy).version if row else _VERSION
        except msgspec.DecodeError:
            return cls()
        if made_by < _VERSION:
            profile._begin_anew()
        return profile

    def write(self, connection: Connection, staging_schema: str) -> None:
        """Keep the profile in the schema."""
        table = sql.Identifier(staging_schema, _TABLE)
        kept = msgspec.structs.replace(self, migrations=self.migrations[-max(_MAX_MIGRATIONS, self.untold) :])
        connection.execute(sql.SQL("delete from {}").format(table))
        connection.execute(
            sql.SQL("insert into {} values (%s)").format(table), [msgspec.json.encode(kept).decode("utf-8")]
        )

    @property
    def news(self) -> tuple[Migration, ...]:
        """Changes of types that no run has reported so far, those of runs that were killed included."""
        return tuple(self.migrations[len(self.migrations) - self.untold :])

    @classmethod
    def mark_told(cls, connection: Connection, staging_schema: str) -> None:
        """The changes of types so far were reported."""
        profile = cls.read(connection, staging_schema)
        profile.untold = 0
        with connection.transaction():
            profile.write(connection, staging_schema)

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
        was, now = remembered.was or before or "text", after or "text"
        # Older rules had another SQL type for the same.
        is_exact_now = bool(remembered.was) and before == after
        if (was != now or is_exact_now) and not is_new:
            reason = _EXACT if is_exact_now else _reason(before, declared, seen.all)
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self.migrations.append(Migration(table, column, was, "numeric" if is_exact_now else now, at, reason))
            self.untold += 1
        remembered.kind, remembered.was = after, ""
        return after or "text"

    def memory(self, kind: str, source: str) -> TableMemory:
        """What is remembered of the table of this kind and source; to be changed in place."""
        return self.tables.setdefault(f"{kind} {source}", TableMemory())

    def _begin_anew(self) -> None:
        """Look at all rows again, by the rules of now. What there is, how it is called and where it stands stays known."""
        self.version = _VERSION
        self.cases_until = self.forms_until = "-infinity"
        for values in self._values():
            values.forget()
        for table in self.tables.values():
            for column in table.columns.values():
                column.was = "double precision" if column.kind in ("decimal", "geopoint") else ""

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
                if value not in ("", None):
                    text = _text(value)
                    values.add(classify(text), text)
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

    __slots__ = ("children", "is_counted", "is_multiple", "options", "path", "values")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.children: dict[str, _Spot | None] = {}
        self.values: SeenValues | None = None
        self.is_counted = True
        self.options: frozenset[str] = frozenset()
        self.is_multiple = False


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
            spot.is_multiple = question.type == "MSelect"
            if spot.is_multiple or question.type == "Select":
                spot.options = frozenset(option.value for option in question.options)

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
        text = _text(value)
        if spot.values is None:
            spot.values = self._seen.answers.setdefault("/".join(spot.path), SeenValues())
        if spot.is_counted:
            spot.values.add(classify(text), text)
        elif not spot.values.all:
            spot.values.add("text")
        if spot.options:
            for answer in filter(None, text.split(" ")) if spot.is_multiple else (text,):
                spot.values.choose(answer, spot.options)


def _stream(connection: Connection, query: sql.Composed) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(name="look") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(query)
        yield from cursor


def _object(text: str | None) -> dict[str, Any]:
    value = _decode(text) if text else None
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
    if declared is None:
        return f"No application declares a type, and not every value is a {before} that is given back as it came; seen: {listed}."
    return f"Too many values did not fit {before}; seen: {listed}."
