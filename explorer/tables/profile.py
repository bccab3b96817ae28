"""What do a tenant's raw tables hold beyond what its applications describe, and what did its generated tables look like before?

Case types, properties, indices, forms, answers, repeats and places of case blocks, with the kinds of values they have. What was
seen once stays known: only rows loaded since the last look are read, and a column does not vanish because its values did.

What a table was once given stays as well: its name, its columns, their names and parts, and of each question or property all
that it was ever defined as (`ColumnMemory.learn`). Whatever is derived from a definition is derived from that union, so that a
change of the application adds columns and takes none away.

It is kept in the tenant's staging schema, beside the tables it speaks of. One that was made by older rules keeps what it knows of
names, places and questions; values are looked at anew, all of them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
import psycopg
from psycopg import sql

from explorer.contract.bookkeeping import profile as kept_profile
from explorer.contract.schemas import TenantSchemas
from explorer.providers.commcare.structure import Form, Option, Question
from explorer.tables.column_types import KINDS, Counts, Kind, classify, settle

_BATCH = 2_000
# Raised when values are classed by other rules, or more is looked for in raw rows.
_VERSION = 2
# What stands beside the answers at the root of a submission: facts about it, and the case of the user.
_NOT_ANSWERS = frozenset({"meta", "#type"})
_BLOCK, _TEXT = "case", "#text"
# Attributes that say what an entry is about: those of repeats over a list of cases, and of blocks that change stocks (ledgers).
_ATTRIBUTES = {
    "@id": "Identifier of what the entry is about, such as a case or a product.",
    "@quantity": "Quantity.",
    "@date": "Date.",
    "@entity-id": "Case or location that the stock belongs to.",
    "@section-id": "Section of the stock.",
    "@src": "Case or location that the stock leaves.",
    "@dest": "Case or location that the stock goes to.",
    _TEXT: "Text of the entry itself.",
}
# Properties that the head of a case has as well, by the key there.
PROPERTIES_OF_HEAD: Mapping[str, str] = {
    "name": "case_name",
    "case_name": "case_name",
    "external_id": "external_id",
    "owner_id": "owner_id",
    "date_opened": "date_opened",
    "last_modified": "last_modified",
    "closed": "closed",
}
# Types of questions that others stand in, and that have no answer of their own.
NO_ANSWER = frozenset({"Group", "Repeat", "FieldList", "SaveToCase"})
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


def key_of(path: Path) -> str:
    """`path` as one text, joined by `/`. Keys that hold a slash or a blank, as JSON can and XML cannot, are escaped."""
    return "/".join(part.replace("~", "~0").replace("/", "~1").replace(" ", "~2") for part in path)


def path_of(key: str) -> Path:
    """The path that `key_of` gave."""
    return tuple(part.replace("~2", " ").replace("~1", "/").replace("~0", "~") for part in key.split("/"))


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
    """Properties and index identifiers that cases of one type have. `differing`: properties that the head of a case has as well,
    with another value."""

    properties: dict[str, SeenValues] = {}
    indices: set[str] = set()
    differing: set[str] = set()


class SeenForm(msgspec.Struct):
    """A form by its submissions: its latest name; answers, repeats, answers that came as lists, and places of case blocks
    (`case` included) by their keys below the root (`key_of`)."""

    name: str
    answers: dict[str, SeenValues] = {}
    repeats: set[str] = set()
    lists: set[str] = set()
    blocks: set[str] = set()


class ColumnMemory(msgspec.Struct, omit_defaults=True):
    """How one question or property was stored: its type (None: nothing told it yet) and in which part of its table (0: none); and
    the union of its definitions.

    `was`: the SQL type that older rules gave it, where it is another one now; until that is told. `types`: CommCare's names, the
    latest last; `options`: those of now, then those that were removed; `removed`: since when, by the option's value, in words.
    """

    kind: Kind | None = None
    part: int = 0
    was: str = ""
    label: str = ""
    translations: dict[str, str] = {}
    types: list[str] = []
    options: list[Option] = []
    removed: dict[str, str] = {}
    left: str = ""
    """Since when no application has the question (any more), in words."""

    def learn(self, question: Question, since: str = "") -> None:
        """Take in a definition. `since`: what is said of options that it has no longer."""
        if question.label and (question.label != question.path[-1] or not self.label):
            self.label = question.label
        self.translations = {**self.translations, **question.translations}
        if question.type:
            self.types = [*(known for known in self.types if known != question.type), question.type]
        present = {option.value for option in question.options}
        gone = [option for option in self.options if option.value not in present]
        self.options = [*question.options, *gone]
        self.removed = {value: told for value, told in self.removed.items() if value not in present}
        for option in gone:
            if since:
                self.removed.setdefault(option.value, since)

    def recall(self, question: Question) -> Question:
        """`question` with all that it ever was."""
        return msgspec.structs.replace(
            question, label=self.label, translations=dict(self.translations), options=tuple(self.options)
        )


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
    def read(cls, connection: Connection, schemas: TenantSchemas) -> Self:
        """The tenant's profile; an empty one when none there can be read: everything is then looked at again."""
        document = kept_profile.read(connection, schemas)
        return cls.from_json(document) if document else cls()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The profile as it was kept, made ready for the rules of now; an empty one when it cannot be read."""
        try:
            profile = msgspec.json.decode(text, type=cls)
            made_by = msgspec.json.decode(text, type=_MadeBy).version
        except msgspec.DecodeError:
            return cls()
        if made_by < _VERSION:
            profile._begin_anew()
        return profile

    def write(self, connection: Connection, schemas: TenantSchemas) -> None:
        """Keep the profile."""
        kept = msgspec.structs.replace(self, migrations=self.migrations[-max(_MAX_MIGRATIONS, self.untold) :])
        kept_profile.write(connection, schemas, msgspec.json.encode(kept).decode("utf-8"))

    @property
    def news(self) -> tuple[Migration, ...]:
        """Changes of types that no run has reported so far, those of runs that were killed included."""
        return tuple(self.migrations[len(self.migrations) - self.untold :])

    @classmethod
    def mark_told(cls, connection: Connection, schemas: TenantSchemas) -> None:
        """The changes of types so far were reported."""
        profile = cls.read(connection, schemas)
        profile.untold = 0
        profile.write(connection, schemas)

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
        """`forms` of the applications with what was ever known of them beyond that: answers that only the data show, columns and
        repeat groups that their tables were once given; and whole forms that are in no application (any more) but in the data."""
        current = {form.xmlns: form for form in forms}
        repeats = self._repeats_given()
        for xmlns in sorted({*current, *self.forms}):
            form = current.get(xmlns) or self._outside_of_applications(xmlns)
            form = _asking_more(form, self._unasked(form, self.forms.get(xmlns)))
            yield _asking_more(form, self._given(form, repeats.get(xmlns, ())))

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

    def names_given(self, but_to: Iterable[TableMemory]) -> set[str]:
        """All names that tables and their parts were ever given, but for the names of these."""
        own = {memory.name for memory in but_to}
        return {name for memory in self.tables.values() for name in (memory.name, *memory.parts.values())} - own - {""}

    def _begin_anew(self) -> None:
        """Look at all rows again, by the rules of now. What there is, how it is called and where it stands stays known."""
        self.version = _VERSION
        self.cases_until = self.forms_until = "-infinity"
        for values in self._values():
            values.forget()
        for table in self.tables.values():
            for column in table.columns.values():
                column.was = "double precision" if column.kind in ("decimal", "geopoint") else ""
        repeats = self._repeats_given()
        for form in self.forms_known.values():
            places = [self.memory("form", form.xmlns)]
            places += [self.memory("repeat", repeat_source(form.xmlns, path)) for path in repeats.get(form.xmlns, ())]
            for question in form.questions:
                for place in places:
                    if (known := place.columns.get(key_of(question.path))) is not None:
                        known.learn(question)

    def _repeats_given(self) -> dict[str, list[Path]]:
        """By xmlns: the repeat groups that were ever given a table."""
        found: dict[str, list[Path]] = {}
        for table in self.tables:
            kind, _, source = table.partition(" ")
            if kind == "repeat":
                xmlns, _, key = source.rpartition(" ")
                found.setdefault(xmlns, []).append(path_of(key))
        return found

    def _given(self, form: Form, repeats: Iterable[Path]) -> list[Question]:
        """Questions for the columns and repeat groups that tables of the form were once given and that `form` would not give."""
        asked = (*self._former(form.xmlns).values(), *form.questions)
        questions = {question.path: question for question in asked if is_asked(question)}
        given = {(question.path, question.repeat) for question in form.questions if is_asked(question)}
        declared = {question.path for question in form.questions if question.type == "Repeat"}
        known = {*declared, *repeats, *(question.repeat for question in form.questions if question.repeat)}
        extra = [
            Question(path, label=path[-1], type="Repeat", repeat=_around(path, known), is_group=True)
            for path in sorted(known - declared)
        ]
        for repeat in (None, *sorted(known)):
            kind, source = ("form", form.xmlns) if repeat is None else ("repeat", repeat_source(form.xmlns, repeat))
            memory = self.tables.get(f"{kind} {source}")
            for key in memory.columns if memory else ():
                if ((path := path_of(key)), repeat) not in given:
                    base = questions.get(path) or Question(path, label=path[-1])
                    extra.append(msgspec.structs.replace(base, repeat=repeat))
        return extra

    def _former(self, xmlns: str) -> dict[Path, Question]:
        known = self.forms_known.get(xmlns)
        return {question.path: question for question in known.questions} if known else {}

    def _values(self) -> Iterator[SeenValues]:
        for case_type in self.case_types.values():
            yield from case_type.properties.values()
        for form in self.forms.values():
            yield from form.answers.values()

    def _look_at_cases(self, connection: Connection, table: sql.Identifier) -> None:
        since, until = self.cases_until, _latest(connection, table, self.cases_until)
        query = sql.SQL(
            "select case_type, (record -> 'properties')::text, (record -> 'indices')::text,"
            " case when record -> 'properties' ?| {both} then (record - 'properties' - 'indices')::text end from {table}"
            " where _loaded_at > {since} and _loaded_at <= {until} and case_type is not null"
        ).format(
            table=table,
            since=sql.Literal(since),
            until=sql.Literal(until),
            both=sql.Literal(list(PROPERTIES_OF_HEAD)),
        )
        for case_type, properties, indices, head in _stream(connection, query):
            seen = self.case_types.setdefault(case_type, SeenCaseType())
            seen.indices.update(_object(indices))
            own = _object(properties)
            if head is not None:
                seen.differing.update(_differing(own, _object(head)))
            for name, value in own.items():
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

    def _unasked(self, form: Form, seen: SeenForm | None) -> list[Question]:
        """Questions for the repeats and answers that submissions have and `form` does not."""
        if seen is None:
            return []
        declared = {question.path: question for question in form.questions}
        former = self._former(form.xmlns)
        repeats = {path for path, question in declared.items() if question.type == "Repeat"}
        repeats |= {question.repeat for question in form.questions if question.repeat}
        repeats |= {path_of(key) for key in seen.repeats}
        # An answer whose question left the form stays in the repeat that it was asked in.
        left = [former[path] for key in seen.answers if (path := path_of(key)) in former and path not in declared]
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
            path = path_of(key)
            question, around = declared.get(path), _around(path, repeats)
            if question is not None and is_asked(question) and question.repeat == around:
                continue
            # A repeat group may have been a question before.
            before = former.get(path)
            label = _ATTRIBUTES.get(path[-1], path[-1])
            base = before if before and is_asked(before) else Question(path, label=label)
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

    def child(self, key: str) -> "_Spot":
        """The node below, also where nothing is looked for."""
        spot = self.children.get(key)
        if spot is None:
            spot = self.children[key] = _Spot((*self.path, key))
        return spot


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
            if key == _TEXT:
                continue
            if key == _BLOCK:
                value = self._without_blocks(value, spot)
            child = spot.children.get(key, spot)
            if child is spot:
                is_fact = key in _ATTRIBUTES and spot.path
                skipped = (key.startswith("@") and not is_fact) or (key in _NOT_ANSWERS and not spot.path)
                child = spot.children[key] = None if skipped else _Spot((*spot.path, key))
            if child is not None and value not in ("", None):
                self._value(value, child)

    def _without_blocks(self, value: Any, spot: _Spot) -> Any:
        """What stands under `case` and is no case block, which is an answer like any other."""
        items = value if isinstance(value, list) else [value]
        others = [item for item in items if not _is_block(item)]
        if len(others) == len(items):
            return value
        self._seen.blocks.add(key_of((*spot.path, _BLOCK)))
        return others or None

    def _value(self, value: Any, spot: _Spot) -> None:
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

    def _answer(self, value: Any, spot: _Spot) -> None:
        if value in ("", None):
            return
        text = _text(value)
        if spot.values is None:
            spot.values = self._seen.answers.setdefault(key_of(spot.path), SeenValues())
        if spot.is_counted:
            spot.values.add(classify(text), text)
        elif not spot.values.all:
            spot.values.add("text")
        if spot.options:
            for answer in _choices(value) if spot.is_multiple else (text,):
                spot.values.choose(answer, spot.options)


def _choices(value: Any) -> Iterator[str]:
    """The choices of a multiple-select answer, which may come as a list."""
    for item in value if isinstance(value, list) else [value]:
        yield from filter(None, _text(item).split(" "))


def _asking_more(form: Form, extra: Sequence[Question]) -> Form:
    return msgspec.structs.replace(form, questions=(*form.questions, *extra)) if extra else form


def is_asked(question: Question) -> bool:
    """Whether the question has answers of its own."""
    return not question.is_group and question.type not in NO_ANSWER


def repeat_source(xmlns: str, path: Path) -> str:
    """How a repeat group is called as the source of a table."""
    return f"{xmlns} {key_of(path)}"


def _is_block(value: Any) -> bool:
    """Whether it has the id of a case: as an attribute, or as an element in version 1 of case blocks."""
    if not isinstance(value, dict):
        return False
    identity = value.get("@case_id")
    return (value.get("case_id") if identity is None else identity) not in ("", None)


def _differing(properties: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[str]:
    """The properties that say something else than the head of their case; one instant may be written in two ways."""
    for name, key in PROPERTIES_OF_HEAD.items():
        own, other = properties.get(name), head.get(key)
        if own in ("", None) or (said := _text(own)) == (known := "" if other is None else _text(other)):
            continue
        if key == "closed" and said.lower() == known.lower():
            continue
        if key in ("date_opened", "last_modified") and _instant(said) is not None and _instant(said) == _instant(known):
            continue
        yield name


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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
