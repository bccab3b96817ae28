"""Which tables does a tenant's structure call for, and what are their columns: one table per case type, form and repeat group.

Gives tables as values and their dbt files as text; how those are written is `model_files`, types are `column_types`, files on
disk `project`. Text of applications enters the files only through `sql_text` and `identifiers`.

Choices: a column is named by the whole path of its question, so that a new question never renames an old one; and what has a name
keeps it, whatever its form or question is called meanwhile and whoever else would like it. What is derived from a question is
derived from the union of all its definitions, and every limit is one for what is new. Blank answers are NULL. A table whose rows
might not fit a page of the database is continued in another one with the same key.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count as count_from
from typing import Any, Literal

from msgspec.structs import replace

from explorer.providers.commcare.structure import Form, Option, Question, Structure
from explorer.tables.column_types import KINDS, Kind, likeness, wider
from explorer.tables.identifiers import identifier, short_hash, unique_identifiers
from explorer.tables.model_files import (
    UNFIT,
    GeneratedColumn,
    Path,
    answer_text,
    case_id_text,
    case_sql,
    form_sql,
    properties_file,
    repeat_sql,
    unfit_column,
)
from explorer.tables.profile import (
    NO_ANSWER,
    PROPERTIES_OF_HEAD,
    ColumnMemory,
    RawProfile,
    SeenValues,
    TableMemory,
    is_asked,
    key_of,
    path_of,
    repeat_source,
)
from explorer.tables.sql_text import literal, quoted, shown, text_array

TableKind = Literal["case_type", "form", "repeat"]

# dbt builds a table under its name with 12 more bytes; a longer name would be cut and could meet another one.
TABLE_MAX_BYTES = 51
# Postgres takes 1600 columns, and 1664 expressions in a select list, where each column can stand twice.
MAX_COLUMNS = 800
# A row must fit a page of 8 kB: texts move out of it when it would not, down to 24 bytes each.
MAX_ROW_BYTES = 7_500
# Multiple-select questions with more options than this get no column per option.
MAX_OPTION_COLUMNS = 12
_TEXT_BYTES = 24
_USUAL_BYTES = {"numeric": 12}
# What is not here takes up to as much as a text: so do numbers that are as long as they may be.
_BYTES = {"bigint": 12, "double precision": 12, "timestamptz": 12, "time": 12, "date": 6, "boolean": 1}
_MAX_DESCRIPTION = 900
# Options are said not to fit the data when none of so many answers is one of them, or of many answers more than half is none.
_FEW_ANSWERS, _MANY_ANSWERS = 5, 20
_MAX_STRANGE = 3
_OPTIONS_UNFIT = "The options of the application do not fit the data: most answers are none of them."
_MAX_OPTIONS = 25

_TYPES: Mapping[Kind, tuple[str, str]] = {
    "integer": ("bigint", "casts.safe_bigint"),
    "decimal": ("numeric", "casts.safe_numeric"),
    "date": ("date", "casts.safe_date"),
    "datetime": ("timestamptz", "casts.safe_timestamptz"),
    "time": ("time", "casts.safe_time"),
    "choices": ("text[]", "casts.choices"),
}
# The column that names a row of a generated table, by its kind.
KEYS: Mapping[str, str] = {"case_type": "case_id", "form": "form_id", "repeat": "repeat_id"}
_GEOPOINT = (("latitude", "degrees"), ("longitude", "degrees"), ("altitude", "metres"), ("accuracy", "metres"))
_FILES = frozenset({"Image", "MicroImage", "Audio", "Video", "Signature", "Document"})
_GROUP_SEPARATOR = "__"
# Keys of columns that are derived from a question's own: its file's address, its options, the parts of a place.
_DERIVED = "\0"
# Keys of columns with the case of a block, and where the case of the user stands in a submission: it is not what a form is about.
_CASE = "\0case "
_USERCASE = ("commcare_usercase", "case")

_CASE_KEYS = {
    "case_id": ("text", "Identifier of the case; key of this table."),
    "case_name": ("text", "Name of the case."),
    "external_id": ("text", "Identifier of the case in another system."),
    "owner_id": ("text", "Owner: a mobile worker, a case-sharing group or a location."),
    "date_opened": ("timestamptz", "When the case was opened, by the clock of the device."),
    "last_modified": ("timestamptz", "When the case was last changed, by the clock of the device."),
    "server_last_modified": ("timestamptz", "When the server last changed the case."),
    "closed": ("boolean", "Whether the case is closed."),
    "date_closed": ("timestamptz", "When the case was closed; NULL while it is open."),
}
_FORM_KEYS = {
    "form_id": ("text", "Identifier of the submission."),
    "app_id": ("text", "Application of the form."),
    "received_on": ("timestamptz", "When the server received the submission."),
    "user_id": ("text", "User who submitted the form."),
    "username": ("text", "Name of that user at the time."),
    "archived": ("boolean", "Whether the submission was archived, that is, taken back."),
}
_FORM_FACTS = (
    GeneratedColumn(
        "time_start",
        "timestamptz",
        "When the user opened the form, by the clock of the device.",
        text="casts.safe_timestamptz(metadata ->> 'timeStart')",
    ),
    GeneratedColumn(
        "time_end",
        "timestamptz",
        "When the user finished the form, by the clock of the device.",
        text="casts.safe_timestamptz(metadata ->> 'timeEnd')",
    ),
    GeneratedColumn(
        "duration_s",
        "double precision",
        "Seconds from time_start to time_end; negative when the clock was set back meanwhile.",
        value="extract(epoch from time_end - time_start)::double precision",
    ),
)


@dataclass(frozen=True)
class GeneratedTable:
    """One table and its model. `source`: the case type, the form's xmlns, or xmlns and path of the repeat group. `app_ids`: the
    applications that describe it; none for what only the data show. `part`: 2 and on for tables that continue the one of the same
    source whose columns are too many; they join by `key`."""

    name: str
    kind: TableKind
    source: str
    description: str
    columns: tuple[GeneratedColumn, ...]
    sql: str = field(repr=False)
    properties: str = field(repr=False)
    """The model's dbt properties file, YAML."""
    key: str = ""
    app_ids: tuple[str, ...] = ()
    part: int = 1

    @property
    def counts_unfit_values(self) -> bool:
        """Whether the table says of each row which values did not fit, in the column `unfit_columns`."""
        return any(column.name == UNFIT for column in self.columns)


@dataclass(frozen=True)
class _Field:
    """What one question or property needs: its columns by key, with the names they wish for."""

    key: str
    columns: tuple[tuple[str, str, GeneratedColumn], ...]

    @property
    def width(self) -> int:
        return sum(_width(column) for _, _, column in self.columns)

    @property
    def usual_width(self) -> int:
        """The width with numbers of the usual length."""
        return sum(_USUAL_BYTES.get(column.type) or _width(column) for _, _, column in self.columns)


def generate_tables(structure: Structure, profile: RawProfile, *, taken: Collection[str]) -> list[GeneratedTable]:
    """All generated tables, sorted by name; `taken`: names of the static models. What was given (names, types, parts) is
    remembered in `profile`, so that it is given again."""
    forms = list(profile.complete(structure.forms))
    now = _Now(structure)
    tables = [*_case_tables(structure, profile, taken, now), *_form_tables(forms, profile, taken, now)]
    return sorted(tables, key=lambda table: table.name)


class _Now:
    """What the applications ask at present, and how it is told that they ask something no longer."""

    def __init__(self, structure: Structure) -> None:
        self._versions = {app.id: f"version {app.version} of " for app in structure.apps if app.version is not None}
        self._asked = {form.xmlns: {question.path for question in form.questions} for form in structure.forms}
        self._seen_on = f"seen on {datetime.now(UTC).date()}"

    def since(self, form: Form) -> str:
        """Empty where no application has the form: then nothing can be told of its questions."""
        if form.xmlns not in self._asked:
            return ""
        return f"{self._versions.get(form.app_id, '')}application {_one_line(form.app_name)} ({self._seen_on})"

    def asks(self, form: Form, path: Path) -> bool:
        return path in self._asked.get(form.xmlns, ())


# Case types


def _case_tables(
    structure: Structure, profile: RawProfile, taken: Collection[str], now: _Now
) -> Iterator[GeneratedTable]:
    properties: dict[str, set[str]] = {case_type.name: set(case_type.properties) for case_type in structure.case_types}
    for name, seen in profile.case_types.items():
        properties.setdefault(name, set()).update(seen.properties)
    properties.pop("", None)
    apps = {case_type.name: case_type.app_ids for case_type in structure.case_types}
    asked = _questions_of_properties(profile.forms_known.values())
    memories = {name: profile.memory("case_type", name) for name in sorted(properties)}
    wishes = [(name, identifier(name, prefix="case_", max_bytes=TABLE_MAX_BYTES)) for name in memories]
    names = _table_names(wishes, memories, taken, profile.names_given(memories.values()), prefix="case_")
    used = {*taken, *names.values()}
    for name, table in names.items():
        origin = (
            ""
            if name in apps
            else " No application describes this case type; its properties are those seen in the data."
        )
        about = f"One row per case of type {name}, open or closed.{origin}"
        of_data = profile.case_types.get(name)
        given = {key.removeprefix(_DERIVED) for key in memories[name].columns if not key.startswith("@")}
        own = (properties[name] | given) - (
            PROPERTIES_OF_HEAD.keys() - (of_data.differing if of_data else set()) - given
        )
        fields = [
            *_index_fields(name, profile),
            *(
                _property_field((name, part), table, profile, memories[name], asked.get(name, {}), now)
                for part in sorted(own)
            ),
        ]
        keys = [GeneratedColumn(key, kind, text) for key, (kind, text) in _CASE_KEYS.items()]
        for part, part_name, columns in _parts(table, keys, 1, fields, memories[name], used, "cases.properties"):
            pointing = [
                column.name for column in columns if column.document and column.path and column.path[1] == "case_id"
            ]
            yield _table(
                part_name,
                "case_type",
                name,
                about if part == 1 else _continues(table, "case_id"),
                columns,
                case_sql(name, columns),
                key=KEYS["case_type"],
                app_ids=apps.get(name, ()),
                part=part,
                parent=(pointing, "cases", "case_id") if pointing else None,
            )


def _questions_of_properties(forms: Iterable[Form]) -> dict[str, dict[str, tuple[Kind | None, Question, Form]]]:
    """By case type and property: the question of the same name in a form of that case type, and the type that all such have.

    Applications do not say which question saves to which property; properties are named after their questions by default.
    """
    found: dict[str, dict[str, tuple[Kind | None, Question, Form]]] = {}
    for form in forms:
        for question in form.questions:
            if form.case_type is None or question.is_group or question.repeat or question.type in NO_ANSWER:
                continue
            kind = _of_property(_declared(question))
            of_type = found.setdefault(form.case_type, {})
            known = of_type.get(question.path[-1])
            if known is None or known[0] is None:
                of_type[question.path[-1]] = (kind, question, form)
            elif kind is not None:
                of_type[question.path[-1]] = (wider(known[0], kind), _with_options(known[1], question), known[2])
    return found


def _of_property(kind: Kind | None) -> Kind | None:
    return "text" if kind in ("choices", "geopoint") else kind


def _with_options(question: Question, other: Question) -> Question:
    options = {option.value: option for option in (*other.options, *question.options)}
    return replace(question, options=tuple(options.values()))


def _index_fields(case_type: str, profile: RawProfile) -> Iterator[_Field]:
    seen = profile.case_types.get(case_type)
    for index in sorted(seen.indices) if seen else ():
        columns = []
        for part, about in (("case_id", "Identifier"), ("case_type", "Type")):
            column = GeneratedColumn(
                "",
                "text",
                f"{about} of the case that index {shown(index)} points to.",
                (index, part),
                label=index,
                document="indices",
                text=f"nullif(indices #>> {text_array((index, part))}, '')",
            )
            columns.append((f"@{index}/{part}", f"{identifier(index, max_bytes=50)}_{part}", column))
        yield _Field(f"@{index}", tuple(columns))


def _property_field(
    property_of: tuple[str, str],
    table: str,
    profile: RawProfile,
    memory: TableMemory,
    asked: Mapping[str, tuple[Kind | None, Question, Form]],
    now: _Now,
) -> _Field:
    """`property_of`: case type and name of the property; `asked`: questions by the property named like them."""
    case_type, name = property_of
    # Keys with an @ are those of indices.
    key = f"{_DERIVED}{name}" if name.startswith("@") else name
    # Where no form of this case type asks it any more, what it was declared as still holds.
    types = memory.columns.get(key, ColumnMemory()).types
    once = _of_property(KINDS.get(types[-1], "text")) if types else None
    declared, question, form = asked.get(name, (once, None, None))
    kept = profile.case_types[case_type].properties.get(name) if case_type in profile.case_types else None
    seen = kept or SeenValues()
    kind = profile.settle(table, memory, key, declared, seen)
    known = memory.columns[key]
    about, misfits = f"Case property {shown(name)}.", dict[str, Any]()
    if name in PROPERTIES_OF_HEAD:
        about += f" It differs from {PROPERTIES_OF_HEAD[name]}, the case's own, in some cases."
    if question is not None and form is not None:
        known.learn(question, now.since(form))
        question = known.recall(question)
        about += f" Asked by the question of that name in {_one_line(form.title)}: {_about(question, known)}"
        answers = profile.forms[form.xmlns].answers if form.xmlns in profile.forms else {}
        misfits = _options_unfit(question, answers.get(key_of(question.path), SeenValues()))
    column = GeneratedColumn(
        name="",
        type="text",
        description=about[:_MAX_DESCRIPTION],
        path=(name,),
        label=known.label or name,
        translations=dict(known.translations),
        options=tuple(known.options),
        question_type=known.types[-1] if known.types else None,
        text=f"nullif(unpacked ->> {literal(name)}, '')",
        values=misfits or _likeness(kind, seen),
    )
    wish = f"{name}_property" if name in PROPERTIES_OF_HEAD else identifier(name)
    return _Field(key, ((key, wish, _typed(column, kind)),))


# Forms and repeat groups


def _form_tables(
    forms: Sequence[Form], profile: RawProfile, taken: Collection[str], now: _Now
) -> Iterator[GeneratedTable]:
    memories = {form.xmlns: profile.memory("form", form.xmlns) for form in forms}
    names = _form_names(forms, memories, taken, profile.names_given(memories.values()))
    used = {*taken, *names.values()}
    for form in sorted(forms, key=lambda form: form.xmlns):
        name = names[form.xmlns]
        yield from _form_table(form, name, profile, used, now)
        repeats = _repeats(form)
        wishes = [(key_of(path), _repeat_name(name, path)) for path in repeats]
        kept = {key_of(path): profile.memory("repeat", repeat_source(form.xmlns, path)) for path in repeats}
        repeat_names = _table_names(wishes, kept, used, profile.names_given(kept.values()))
        used.update(repeat_names.values())
        for path in repeats:
            yield from _repeat_table(form, name, path, repeat_names, profile, used, now)


def _form_names(
    forms: Sequence[Form], memories: Mapping[str, TableMemory], taken: Collection[str], reserved: Collection[str]
) -> dict[str, str]:
    """Table by xmlns, for good. Forms that would share a name get their application's name too, and where that is not enough, a
    hash. `reserved`: names of other tables, also of those whose form is gone at present."""
    plain = {form.xmlns: identifier(form.title, prefix="form_", max_bytes=TABLE_MAX_BYTES) for form in forms}
    kept = _kept_names(plain.items(), {xmlns: memory.name for xmlns, memory in memories.items()}, taken)
    held = Counter(plain.values())
    wishes = []
    for form in forms:
        wish = plain[form.xmlns]
        if form.xmlns not in kept and (held[wish] > 1 or wish in kept.values() or wish in reserved):
            text = f"{form.app_name} {form.title}"
            wish = identifier(text, prefix="form_", max_bytes=TABLE_MAX_BYTES)
        if form.xmlns not in kept:
            wishes.append((form.xmlns, wish))
    new = unique_identifiers(wishes, taken={*taken, *reserved, *kept.values()}, max_bytes=TABLE_MAX_BYTES)
    names = {form.xmlns: kept.get(form.xmlns) or new[form.xmlns] for form in forms}
    for xmlns, name in names.items():
        memories[xmlns].take(plain[xmlns], name)
    return names


def _repeat_name(form_table: str, path: Path) -> str:
    # Model iteration repeats keep their repetitions under a key `item`.
    leaf = path[-2] if path[-1] == "item" and len(path) > 1 else path[-1]
    name = f"{form_table}__{identifier(leaf)}"
    if len(name) <= TABLE_MAX_BYTES:
        return name
    return f"{name[: TABLE_MAX_BYTES - 9].rstrip('_')}_{short_hash('/'.join((form_table, *path)))}"


def _repeats(form: Form) -> list[Path]:
    declared = {question.path for question in form.questions if question.type == "Repeat"}
    return sorted(declared | {question.repeat for question in form.questions if question.repeat})


def _form_table(form: Form, name: str, profile: RawProfile, used: set[str], now: _Now) -> Iterator[GeneratedTable]:
    memory = profile.memory("form", form.xmlns)
    own = [GeneratedColumn(key, kind, about) for key, (kind, about) in _FORM_KEYS.items()]
    main, *others = _case_columns(form, None, profile, memory, {column.name for column in (*own, *_FORM_FACTS)})
    keys = [*own, main, *_FORM_FACTS, *others]
    fields = _answer_fields(form, None, name, profile, memory, now)
    about = f"One row per submission of the form {_form_title(form)}.{_formerly(memory)}"
    for part, part_name, columns in _parts(name, keys, 1, fields, memory, used, "forms.form"):
        yield _table(
            part_name,
            "form",
            form.xmlns,
            about if part == 1 else _continues(name, "form_id"),
            columns,
            form_sql(form.xmlns, [key for key in _FORM_KEYS if part == 1 or key == "form_id"], columns),
            key=KEYS["form"],
            app_ids=form.app_ids,
            part=part,
        )


def _repeat_table(
    form: Form, form_table: str, path: Path, names: Mapping[str, str], profile: RawProfile, used: set[str], now: _Now
) -> Iterator[GeneratedTable]:
    name, source = names[key_of(path)], repeat_source(form.xmlns, path)
    chain = [prefix for length in range(1, len(path) + 1) if key_of(prefix := path[:length]) in names]
    keys = {
        "repeat_id": ("text", "Identifier of the repetition: submission and positions; key of this table."),
        **_FORM_KEYS,
    }
    keys["repeat_index"] = ("bigint", "Position of the repetition, from 1.")
    around, parent = "", (["form_id"], form_table, "form_id")
    if len(chain) > 1:
        outer = names[key_of(chain[-2])]
        keys["parent_index"] = ("bigint", "Position of the repetition around this one.")
        keys["parent_repeat_id"] = ("text", f"repeat_id of the repetition around this one, in {outer}.")
        around = f" It lies in the repeat group {shown('/'.join(chain[-2]))} ({outer}, by parent_repeat_id)."
        parent = (["parent_repeat_id"], outer, "repeat_id")
    memory = profile.memory("repeat", source)
    key_columns = [GeneratedColumn(key, kind, about) for key, (kind, about) in keys.items()]
    key_columns += _case_columns(form, path, profile, memory, set(keys))
    fields = _answer_fields(form, path, name, profile, memory, now)
    for part, part_name, columns in _parts(name, key_columns, 2, fields, memory, used, "forms.form"):
        about = (
            f"One row per repetition of {shown('/'.join(path))} in the form {_form_title(form)};"
            f" joins {form_table} by form_id.{around}{_formerly(memory)}"
        )
        yield _table(
            part_name,
            "repeat",
            source,
            about if part == 1 else _continues(name, "repeat_id"),
            columns,
            repeat_sql(form.xmlns, [*_FORM_KEYS], chain, columns),
            key=KEYS["repeat"],
            app_ids=form.app_ids,
            part=part,
            parent=parent if part == 1 else None,
        )


def _form_title(form: Form) -> str:
    place = f"application {form.app_name}" if form.app_id else form.app_name
    return f"{form.title} ({place}, xmlns {form.xmlns})"


def _formerly(memory: TableMemory) -> str:
    return f" It was called {memory.former[-1]} before." if memory.former else ""


def _case_columns(
    form: Form, repeat: Path | None, profile: RawProfile, memory: TableMemory, keys: set[str]
) -> list[GeneratedColumn]:
    """The cases of a row's own blocks, without those in repetitions inside it. First `case_id`: of the block at its root, else of
    the only place where there are any; a form has that column always. Then one for each other place, by its path.

    What `case_id` and the others once stood for they stand for as long as the table is there.
    """
    seen, around = profile.forms.get(form.xmlns), repeat or ()
    repeats = set(_repeats(form))
    root = (*around, "case")
    found = {path_of(key) for key in (seen.blocks if seen else ())}
    places = {place for place in found if _innermost(place, repeats) == repeat} | set(map(path_of, memory.cases))
    about_the_whole = places - {_USERCASE}
    if root not in places and len(about_the_whole) == 1 and not memory.main_case:
        memory.main_case = key_of(next(iter(about_the_whole)))
    main = [root] if root in places or (repeat is None and not memory.main_case) else []
    main += [path_of(memory.main_case)] if memory.main_case else []
    memory.cases |= {key_of(place) for place in places}
    document = "repetition" if repeat else "form"
    fields = []
    for place in sorted(places - set(main[:1])):
        wish = f"{identifier(*place[len(around) : -1], max_bytes=55)}_case_id"
        column = GeneratedColumn(
            "",
            "text",
            f"The case of the block at {shown('/'.join(place))}.",
            reads=(*place, "@case_id"),
            text=case_id_text(document, place[len(around) :]),
        )
        fields.append(_Field(key_of(place), ((f"{_CASE}{key_of(place)}", wish, column),)))
    if main:
        what = "form as a whole" if repeat is None else "repetition"
        told = " or ".join(shown("/".join(place)) for place in main)
        column = GeneratedColumn(
            "",
            "text",
            f"The case that the {what} is about, of the block at {told}; all cases it touched are in form_cases.",
            reads=(*main[0], "@case_id"),
            text=f"coalesce({', '.join(case_id_text(document, place[len(around) :]) for place in main)})",
        )
        fields.insert(0, _Field(_CASE, ((_CASE, "case_id", column),)))
    reserved = {"case_id"} if repeat is None else set()
    names = {_CASE: "case_id"} if reserved else {}
    names |= _column_names([each for each in fields if each.key not in names], memory, keys | reserved)
    return [replace(column, name=names[key]) for each in fields for key, _, column in each.columns]


def _innermost(path: Path, repeats: Collection[Path]) -> Path | None:
    """The repeat group that `path` lies in."""
    return next((path[:length] for length in range(len(path) - 1, 0, -1) if path[:length] in repeats), None)


def _answer_fields(
    form: Form, repeat: Path | None, table: str, profile: RawProfile, memory: TableMemory, now: _Now
) -> Iterator[_Field]:
    seen = profile.forms.get(form.xmlns)
    containers = {question.path[:length] for question in form.questions for length in range(1, len(question.path))}
    for question in form.questions:
        if question.repeat == repeat and is_asked(question):
            key = key_of(question.path)
            values = (seen.answers.get(key) if seen else None) or SeenValues()
            known = memory.columns.get(key, ColumnMemory())
            kind = profile.settle(table, memory, key, _declared(question, known), values)
            known, since = memory.columns[key], now.since(form)
            is_current = now.asks(form, question.path)
            known.learn(question, since if is_current else "")
            known.left = "" if is_current or not known.types else known.left or since
            may_be_list = question.path in containers or (seen is not None and key in seen.lists)
            asked = known.recall(question)
            yield _answer_field(key, asked, kind, repeat, known, values, memory, may_be_list=may_be_list)


def _declared(question: Question, known: ColumnMemory | None = None) -> Kind | None:
    kind = KINDS.get(question.type, "text")
    # A hidden value in the place of choices, or of a place, may be any text.
    return "text" if kind is None and known and {"MSelect", "Geopoint"} & set(known.types) else kind


def _answer_field(
    key: str,
    question: Question,
    kind: Kind,
    repeat: Path | None,
    known: ColumnMemory,
    values: SeenValues,
    memory: TableMemory,
    *,
    may_be_list: bool,
) -> _Field:
    """`question`: with all that it ever was, as are its types in `known`; `values`: those seen; `may_be_list`: a list may be in
    the answer's place."""
    path, document = question.path[len(repeat or ()) :], "repetition" if repeat else "form"
    is_multiple = kind == "choices" or "MSelect" in known.types
    column = GeneratedColumn(
        name="",
        type="text",
        description=_about(question, known)[:_MAX_DESCRIPTION],
        path=question.path,
        label=question.label or None,
        translations=dict(question.translations),
        options=question.options,
        question_type=question.type,
        text=answer_text(document, path, may_be_list=may_be_list, joined=is_multiple),
    )
    misfits = _options_unfit(question, values)
    columns: list[tuple[str, str, GeneratedColumn]] = []
    is_place = kind == "geopoint" and key not in memory.names
    if not is_place:
        typed = replace(_typed(column, kind), values=misfits or _likeness(kind, values))
        if misfits:
            typed = replace(typed, description=f"{_OPTIONS_UNFIT} {column.description}"[:_MAX_DESCRIPTION])
        columns.append((key, identifier(*path), typed if misfits else _watched(typed, known)))
    if kind == "geopoint" or "Geopoint" in known.types:
        columns += _places(key, path, column, memory, is_alone=is_place)
    if file_type := next((known_type for known_type in reversed(known.types) if known_type in _FILES), None):
        url = _url_of(replace(column, question_type=file_type))
        columns.append((f"{key}{_DERIVED}url", f"{identifier(*path, max_bytes=59)}_url", url))
    if "MSelect" in known.types:
        is_short = len(question.options) - len(known.removed) <= MAX_OPTION_COLUMNS
        for option in question.options:
            option_key = f"{key}{_DERIVED}={option.value}"
            is_offered = is_short and option.value not in known.removed
            # Where the options do not fit the data, a column of one that nobody chose would be false for ever.
            if option_key in memory.names or (is_offered and (not misfits or values.answers.get(option.value))):
                chosen = _option_column(column, option, kind, known.removed.get(option.value, ""))
                columns.append((option_key, identifier(*path, option.value), chosen))
    return _Field(key, tuple(columns))


def _watched(column: GeneratedColumn, known: ColumnMemory) -> GeneratedColumn:
    """The column, watched for answers that were a choice never; not where the question was once of a type without choices."""
    if not set(known.types) <= {"Select", "MSelect"}:
        return column
    if column.type == "text" and column.options and len(known.types) > 1:
        options = text_array(option.value for option in column.options)
        return replace(column, misfit=f"not array_remove(string_to_array({{column}}, ' '), '') <@ {options}")
    return _among_options(column)


def _typed(column: GeneratedColumn, kind: Kind) -> GeneratedColumn:
    if kind not in _TYPES:
        return column
    sql_type, cast = _TYPES[kind]
    lost = "" if kind == "choices" else r"{column} is null and {text} ~ '[^ \t\n\r\f\v]'"
    return replace(column, type=sql_type, cast=f"{cast}({{text}})", misfit=lost)


def _likeness(kind: Kind, seen: SeenValues) -> dict[str, Any]:
    """Why the column is text, as far as its values tell: what most of them are, and one that is not."""
    found = likeness(seen.all) if kind == "text" else None
    if found is None:
        return {}
    example = next((seen.examples[name] for name in sorted(found.others) if name in seen.examples), None)
    facts: dict[str, Any] = {"are": found.kind, "fitting": found.fitting, "of": found.total}
    return facts if example is None else facts | {"not": example}


def _options_unfit(question: Question, seen: SeenValues) -> dict[str, Any]:
    """Whether the question's options are not those of the data, and by how much; empty when they are, or too few answers tell."""
    options = {option.value for option in question.options}
    total = sum(seen.answers.values())
    strange = {answer: count for answer, count in seen.answers.items() if answer not in options}
    lost = sum(strange.values())
    if not options or total < _FEW_ANSWERS or not (lost == total or (total >= _MANY_ANSWERS and lost * 2 > total)):
        return {}
    most = sorted((answer for answer in strange if answer), key=lambda answer: (-strange[answer], answer))
    return {"options_unfit": lost, "of": total, "such_as": most[:_MAX_STRANGE]}


def _among_options(column: GeneratedColumn) -> GeneratedColumn:
    """The column of a question with choices, watched for answers that are none of them."""
    options = text_array(option.value for option in column.options)
    if column.options and column.type == "text[]":
        return replace(column, misfit=f"not {{column}} <@ {options}")
    if column.options and column.type == "text" and column.question_type == "Select":
        return replace(column, misfit=f"{{column}} <> all({options})")
    return column


def _place_columns(key: str, path: Path, column: GeneratedColumn) -> Iterator[tuple[str, str, GeneratedColumn]]:
    """Four numbers of one answer; where it is no place, none is taken, and the first column is named for it."""
    lost = r"{column} is null and {text} ~ '[^ \t\n\r\f\v]'"
    for position, (part, unit) in enumerate(_GEOPOINT, start=1):
        yield (
            f"{key}/{part}",
            f"{identifier(*path, max_bytes=50)}_{part}",
            replace(
                column,
                type="numeric",
                description=f"{part.capitalize()} in {unit}. {column.description}"[:_MAX_DESCRIPTION],
                cast=f"casts.place_part({{text}}, {position})",
                misfit=lost if position == 1 else "",
            ),
        )


def _places(
    key: str, path: Path, column: GeneratedColumn, memory: TableMemory, *, is_alone: bool
) -> Iterator[tuple[str, str, GeneratedColumn]]:
    """The parts of a place; `is_alone`: its text has no column of its own, so that a part must tell what does not fit."""
    for place_key, wish, part in _place_columns(key, path, replace(column, question_type="Geopoint")):
        derived = place_key.replace(f"{key}/", f"{key}{_DERIVED}", 1)
        # Earlier the key was one that a question may have.
        if memory.names.get(place_key, ("",))[0] == wish:
            memory.names[derived] = memory.names.pop(place_key)
        yield derived, wish, part if is_alone else replace(part, misfit="")


def _url_of(column: GeneratedColumn) -> GeneratedColumn:
    return replace(
        column,
        description=f"Where the server keeps the file; NULL when it was not submitted. {column.description}"[
            :_MAX_DESCRIPTION
        ],
        reads_attachments=True,
        text="",
        value="_attachments -> {of} ->> 'url'",
    )


def _option_column(column: GeneratedColumn, option: Option, kind: Kind, removed: str) -> GeneratedColumn:
    chosen = f"{literal(option.value)} = any({{of}})"
    if kind != "choices":
        chosen = f"{literal(option.value)} = any(string_to_array({{of}}, ' '))"
    about = f"Whether {_one_line(option.label)} ({shown(option.value)}) was chosen; NULL without an answer."
    about += f" Removed from the application since {removed}." if removed else ""
    return replace(
        column,
        type="boolean",
        description=f"{about} {_asked(column)}"[:_MAX_DESCRIPTION],
        label=option.label,
        translations=dict(option.translations),
        options=(),
        question_type="MSelect",
        text="",
        value=chosen,
    )


def _asked(column: GeneratedColumn) -> str:
    return f"{_one_line(column.label or '')} (Question {shown('/'.join(column.path or ()))}.)"


def _about(question: Question, known: ColumnMemory) -> str:
    kind = (
        "Hidden value"
        if question.type == "DataBindOnly"
        else f"Question of type {question.type}"
        if question.type
        else "Answer"
    )
    label = f"{_one_line(question.label)} " if question.label and question.label != question.path[-1] else ""
    listed = [f"{shown(option.value)} = {_one_line(option.label)}" for option in question.options[:_MAX_OPTIONS]]
    more = "; ..." if len(question.options) > _MAX_OPTIONS else ""
    choices = f" Choices: {'; '.join(listed)}{more}." if listed else ""
    gone: dict[str, list[str]] = {}
    for value, since in list(known.removed.items())[:_MAX_OPTIONS]:
        gone.setdefault(since, []).append(shown(value))
    removed = "".join(f" Removed from the application since {since}: {', '.join(of)}." for since, of in gone.items())
    left = f" No longer asked since {known.left}." if known.left else ""
    return f"{label}({kind} {shown('/'.join(question.path))}.){left}{removed}{choices}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


# Names and parts


def _kept_names(keys: Iterable[tuple[str, str]], before: Mapping[str, str], taken: Collection[str]) -> dict[str, str]:
    """The names that are given as before, by key, whatever name the key would wish for now."""
    kept: dict[str, str] = {}
    used = set(taken)
    for key, _ in keys:
        name = before.get(key, "")
        if name and name not in used:
            kept[key] = name
            used.add(name)
    return kept


def _table_names(
    wishes: Sequence[tuple[str, str]],
    memories: Mapping[str, TableMemory],
    taken: Collection[str],
    reserved: Collection[str],
    *,
    prefix: str = "",
) -> dict[str, str]:
    """`reserved`: names of other tables, also of those whose source is gone at present."""
    kept = _kept_names(wishes, {key: memory.name for key, memory in memories.items()}, taken)
    new = unique_identifiers(
        (pair for pair in wishes if pair[0] not in kept),
        taken={*taken, *reserved, *kept.values()},
        max_bytes=TABLE_MAX_BYTES,
        spelt=lambda key: prefix + key,
    )
    names = {key: kept.get(key) or new[key] for key, _ in wishes}
    for key, wish in wishes:
        memories[key].take(wish, names[key])
    return names


def _column_names(fields: Sequence[_Field], memory: TableMemory, taken: Collection[str]) -> dict[str, str]:
    """Questions choose before the columns derived from them, so that a new option never renames a question's column; and names
    that were given once are free no more."""
    wishes = [(key, wish) for field in fields for key, wish, _ in field.columns]
    given = {key: name for key, (_, name) in memory.names.items()}
    names = _kept_names(wishes, given, taken)
    for derived in (False, True):
        new = [(key, wish) for key, wish in wishes if key not in names and (_DERIVED in key) == derived]
        names |= unique_identifiers(
            new,
            taken={*taken, *given.values(), *names.values()},
            spelt=lambda key: key.replace("/", _GROUP_SEPARATOR),
        )
    memory.names |= {key: (wish, names[key]) for key, wish in wishes}
    return names


def _parts(
    table: str,
    keys: Sequence[GeneratedColumn],
    joined_by: int,
    fields: Iterable[_Field],
    memory: TableMemory,
    used: set[str],
    document: str,
) -> Iterator[tuple[int, str, list[GeneratedColumn]]]:
    """The table and those that continue it: part, name and columns. `joined_by`: how many of the keys the others repeat;
    `document`: where the values are as they came."""
    fields, placed = _place(list(fields), memory, sum(map(_width, keys)))
    names = _column_names(fields, memory, {UNFIT, *(key.name for key in keys)})
    for part in sorted({1, *placed.values()}):
        columns = [
            _named(column, names[key], names.get(field.key, ""))
            for field in fields
            if placed[field.key] == part
            for key, _, column in field.columns
        ]
        if part in memory.watched or any(column.misfit for column in columns):
            memory.watched.add(part)
            columns.append(unfit_column(document))
        name = table if part == 1 else _part_name(table, part, memory, used)
        yield part, name, [*(keys if part == 1 else keys[:joined_by]), *columns]


def _part_name(table: str, part: int, memory: TableMemory, used: set[str]) -> str:
    name = memory.parts.get(part) or f"{table[: TABLE_MAX_BYTES - 4].rstrip('_')}__{part}"
    if name in used:
        name = f"{table[: TABLE_MAX_BYTES - 9].rstrip('_')}_{short_hash(f'{table}/{part}')}"
    used.add(name)
    memory.parts[part] = name
    return name


def _place(fields: Sequence[_Field], memory: TableMemory, key_bytes: int) -> tuple[list[_Field], dict[str, int]]:
    """The part of the table that each field is in: where it was before, else the first one with room. What a field is given
    beyond what it had is left out where its part has no room for it, if it is derived from columns that are there."""
    placed: dict[str, int] = {}
    filled: dict[int, tuple[int, int, int]] = {}

    def put(field: _Field, part: int, room: float, *, usual: bool = False) -> bool:
        width, usually, count = filled.get(part, (key_bytes, key_bytes, 24))
        width, usually, count = width + field.width, usually + field.usual_width, count + len(field.columns)
        if (usually if usual else width) > MAX_ROW_BYTES * room or count > MAX_COLUMNS * room:
            return False
        filled[part], placed[field.key] = (width, usually, count), part
        return True

    fitting: dict[str, _Field] = {}
    for each in fields:
        part = memory.columns.setdefault(each.key, ColumnMemory()).part
        had = _Field(each.key, tuple(column for column in each.columns if column[0] in memory.names))
        # A column that became wider stays where it is as long as that is possible at all: numbers count as they usually are then.
        if part and had.columns and put(had, part, 1.04, usual=True):
            fitting[each.key] = had
    for each in fields:
        if (known := fitting.get(each.key)) is None or len(known.columns) == len(each.columns):
            continue
        more = _Field(each.key, tuple(column for column in each.columns if column not in known.columns))
        if put(more, placed[each.key], 1.04, usual=True):
            fitting[each.key] = each
        elif not all(_DERIVED in key for key, *_ in more.columns):
            del fitting[each.key]
    for each in fields:
        if each.key not in fitting:
            fitting[each.key] = each
            memory.columns[each.key].part = next(part for part in count_from(1) if put(each, part, 1))
    return [fitting[each.key] for each in fields], placed


def _width(column: GeneratedColumn) -> int:
    """The most bytes that a value takes within the row."""
    if column.options and column.question_type == "Select" and column.type == "text":
        return min(_TEXT_BYTES, 1 + max(len(option.value.encode()) for option in column.options))
    return _BYTES.get(column.type, _TEXT_BYTES)


def _named(column: GeneratedColumn, name: str, of: str) -> GeneratedColumn:
    """`of`: name of the column that this one is derived from, or its own."""
    source = quoted(of) if of else ""
    return replace(
        column,
        name=name,
        value=column.value.replace("{of}", source),
        misfit=column.misfit.replace("{column}", quoted(name)),
    )


def _continues(table: str, key: str) -> str:
    return (
        f"Continues {table}, whose columns are too many for one table; one row for each of its rows, joined by {key}."
    )


def _table(
    name: str,
    kind: TableKind,
    source: str,
    about: str,
    columns: Sequence[GeneratedColumn],
    sql: str,
    *,
    key: str,
    app_ids: tuple[str, ...],
    part: int,
    parent: tuple[Sequence[str], str, str] | None = None,
) -> GeneratedTable:
    xmlns = source.rpartition(" ")[0] if kind == "repeat" else source
    origin = {"case_type": source} if kind == "case_type" else {"xmlns": xmlns}
    properties = properties_file(
        name,
        _one_line(about),
        columns,
        key=key,
        rows_of="case_id" if kind == "case_type" else "form_id",
        meta={**origin, "app_ids": app_ids},
        parent=parent,
    )
    return GeneratedTable(name, kind, source, _one_line(about), tuple(columns), sql, properties, key, app_ids, part)
