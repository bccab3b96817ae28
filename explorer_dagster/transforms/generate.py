"""Which tables does a tenant's structure call for, and what are their models: one per case type, form and repeat group.

Gives tables as values and their dbt files as text; writing files belongs to `project`. Text of applications enters the files only
through `sql_text` and `identifiers`.

Choices: a column is named by the whole path of its question, so that a new question never renames an old one. Answers
that do not fit the question's type are NULL, as are blank ones. Case properties are text: applications do not say their types,
and types guessed from today's values would change tomorrow.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from explorer_dagster.commcare.structure import Form, Option, Question, Structure
from explorer_dagster.identifiers import identifier, short_hash, unique_identifiers
from explorer_dagster.transforms.profile import RawProfile
from explorer_dagster.transforms.sql_text import description as yaml_text
from explorer_dagster.transforms.sql_text import literal, quoted, text_array

Kind = Literal["case_type", "form", "repeat"]
Path = tuple[str, ...]

# dbt builds a table under its name with 12 more bytes; a longer name would be cut and could meet another one.
TABLE_MAX_BYTES = 51
# Postgres takes 1600 columns; a select list with more than 1664 expressions is refused.
MAX_COLUMNS = 1200
_MAX_DESCRIPTION = 900
_MAX_OPTIONS = 25
_SPACE = re.compile(r"\s+")

_SQL_TYPES = {
    "Int": ("bigint", "bigint"),
    "Long": ("bigint", "bigint"),
    "Double": ("double", "double precision"),
    "Date": ("date", "date"),
    "Time": ("time", "time"),
    "DateTime": ("timestamptz", "timestamptz"),
}
_GEOPOINT = (("latitude", "degrees"), ("longitude", "degrees"), ("altitude", "metres"), ("accuracy", "metres"))
_NO_ANSWER = frozenset({"Group", "Repeat", "FieldList", "SaveToCase"})

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
_FORM_FACTS = {
    "case_id": ("text", "The case that the form as a whole is about; all cases it touched are in form_cases."),
    "time_start": ("timestamptz", "When the user opened the form, by the clock of the device."),
    "time_end": ("timestamptz", "When the user finished the form, by the clock of the device."),
}
_PROPERTIES_ELSEWHERE = frozenset(
    {"name", "case_name", "external_id", "owner_id", "date_opened", "last_modified", "closed"}
)


@dataclass(frozen=True)
class GeneratedColumn:
    """One column. `path`: keys below the form's root, or the case property; None for key columns. `label`, `translations`,
    `options`: the question's own words, as upstream wrote them."""

    name: str
    type: str
    description: str
    path: Path | None = None
    label: str | None = None
    translations: dict[str, str] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    expression: str = field(default="", repr=False)
    """SQL of the text value that `cast` turns into the column; empty for key columns."""
    cast: str = field(default="{column}", repr=False)
    """SQL, with macro calls, of the typed value; `{column}` stands for the quoted text value."""


@dataclass(frozen=True)
class GeneratedTable:
    """One table and its model. `source`: the case type, the form's xmlns, or xmlns and path of the repeat group."""

    name: str
    kind: Kind
    source: str
    description: str
    columns: tuple[GeneratedColumn, ...]
    sql: str = field(repr=False)
    properties: str = field(repr=False)
    """The model's dbt properties file, YAML."""


def generate_tables(structure: Structure, profile: RawProfile, *, taken: Collection[str]) -> list[GeneratedTable]:
    """All generated tables, sorted by name; `taken`: names of the static models."""
    known = {form.xmlns for form in structure.forms}
    forms = [*structure.forms, *profile.unknown_forms(known)]
    tables = [*_case_tables(structure, profile, taken), *_form_tables(forms, taken)]
    return sorted(tables, key=lambda table: table.name)


# Case types


def _case_tables(structure: Structure, profile: RawProfile, taken: Collection[str]) -> Iterator[GeneratedTable]:
    properties: dict[str, set[str]] = {case_type.name: set(case_type.properties) for case_type in structure.case_types}
    for name, seen in profile.case_types.items():
        properties.setdefault(name, set()).update(seen.properties)
    properties.pop("", None)
    in_apps = {case_type.name for case_type in structure.case_types}
    names = unique_identifiers(
        ((name, identifier(name, prefix="case_", max_bytes=TABLE_MAX_BYTES)) for name in sorted(properties)),
        taken=taken,
        max_bytes=TABLE_MAX_BYTES,
    )
    for name, table in names.items():
        indices = sorted(profile.case_types[name].indices) if name in profile.case_types else []
        columns = _case_columns(sorted(properties[name] - _PROPERTIES_ELSEWHERE), indices)
        origin = (
            ""
            if name in in_apps
            else " No application describes this case type; its properties are those seen in the data."
        )
        about = f"One row per case of type {name}, open or closed.{origin}"
        yield _table(table, "case_type", name, about, columns, _case_sql(name, columns), key="case_id")


def _case_columns(properties: Sequence[str], indices: Sequence[str]) -> list[GeneratedColumn]:
    keys = [GeneratedColumn(name, kind, about) for name, (kind, about) in _CASE_KEYS.items()]
    found: dict[str, tuple[Path, str, str]] = {}
    for index in indices:
        for part, about in (("case_id", "Identifier"), ("case_type", "Type")):
            text = f"{about} of the case that index {index} points to."
            found[f"index {index} {part}"] = ((index, part), f"indices #>> {text_array((index, part))}", text)
    for name in properties:
        found[name] = ((name,), f"unpacked ->> {literal(name)}", f"Case property {name}.")
    wishes = [(key, _index_name(path) if len(path) == 2 else identifier(*path)) for key, (path, _, _) in found.items()]
    names = unique_identifiers(wishes, taken=_CASE_KEYS)
    values = [
        GeneratedColumn(names[key], "text", about, path, label=path[0], expression=f"nullif({expression}, '')")
        for key, (path, expression, about) in found.items()
    ]
    return (keys + values)[:MAX_COLUMNS]


def _index_name(path: Path) -> str:
    return f"{identifier(path[0], max_bytes=50)}_{path[1]}"


def _case_sql(case_type: str, columns: Sequence[GeneratedColumn]) -> str:
    values = _lines(f"{column.expression or column.name} as {quoted(column.name)}" for column in columns)
    return f"""with

-- The JSON is unpacked once per row, not once per column.
cases as (

    select
        *,
        properties || '{{}}'::jsonb as unpacked
    from {{{{ ref('cases') }}}}
    where case_type = {literal(case_type)}
    offset 0

)

select
{values}
from cases
"""  # noqa: S608 - only literals and names made by sql_text


# Forms and repeat groups


def _form_tables(forms: Sequence[Form], taken: Collection[str]) -> Iterator[GeneratedTable]:
    names = _form_names(forms, taken)
    used = {*taken, *names.values()}
    for form in sorted(forms, key=lambda form: form.xmlns):
        name = names[form.xmlns]
        yield _form_table(form, name)
        repeats = _repeats(form)
        wishes = [("/".join(path), _repeat_name(name, path)) for path in repeats]
        repeat_names = unique_identifiers(wishes, taken=used, max_bytes=TABLE_MAX_BYTES)
        used.update(repeat_names.values())
        for path in repeats:
            yield _repeat_table(form, name, path, repeat_names["/".join(path)], repeats)


def _form_names(forms: Sequence[Form], taken: Collection[str]) -> dict[str, str]:
    """Table by xmlns. Forms that would share a name get their application's name too, and where that is not enough, a hash."""

    def wish(form: Form, *, with_app: bool) -> str:
        text = f"{form.app_name} {form.title}" if with_app else form.title
        return identifier(text, prefix="form_", max_bytes=TABLE_MAX_BYTES)

    plain = {form.xmlns: wish(form, with_app=False) for form in forms}
    held = Counter(plain.values())
    wishes = [
        (form.xmlns, plain[form.xmlns] if held[plain[form.xmlns]] == 1 else wish(form, with_app=True)) for form in forms
    ]
    return unique_identifiers(wishes, taken=taken, max_bytes=TABLE_MAX_BYTES)


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


def _form_table(form: Form, name: str) -> GeneratedTable:
    keys = [GeneratedColumn(key, kind, about) for key, (kind, about) in {**_FORM_KEYS, **_FORM_FACTS}.items()]
    columns = _with_answers(keys, form, repeat=None)
    facts = """        nullif(form #>> '{case,@case_id}', '') as case_id,
        {{ safe_timestamptz("metadata ->> 'timeStart'") }} as time_start,
        {{ safe_timestamptz("metadata ->> 'timeEnd'") }} as time_end,
"""
    sql = _answers_sql(form.xmlns, "", [*_FORM_KEYS], facts, columns, source="forms", document="form")
    return _table(
        name,
        "form",
        form.xmlns,
        f"One row per submission of the form {_form_title(form)}.",
        columns,
        sql,
        key="form_id",
    )


def _repeat_table(form: Form, form_table: str, path: Path, name: str, repeats: Sequence[Path]) -> GeneratedTable:
    chain = [other for other in repeats if other == path[: len(other)]]
    nested = len(chain) > 1
    keys = {
        "repeat_id": ("text", "Identifier of the repetition: submission and positions; key of this table."),
        **_FORM_KEYS,
    }
    keys["repeat_index"] = ("bigint", "Position of the repetition, from 1.")
    if nested:
        keys["parent_index"] = ("bigint", "Position of the repetition around this one.")
        keys["parent_repeat_id"] = (
            "text",
            "repeat_id of the repetition around this one, in the table of that repeat group.",
        )
    columns = _with_answers(
        [GeneratedColumn(key, kind, about) for key, (kind, about) in keys.items()], form, repeat=path
    )
    sql = _answers_sql(
        form.xmlns, _repetitions_sql(chain), [*keys], "", columns, source="repetitions", document="repetition"
    )
    around = f" It lies in the repeat group {'/'.join(chain[-2])}." if nested else ""
    about = f"One row per repetition of {'/'.join(path)} in the form {_form_title(form)}; joins {form_table} by form_id.{around}"
    return _table(name, "repeat", f"{form.xmlns} {'/'.join(path)}", about, columns, sql, key="repeat_id")


def _form_title(form: Form) -> str:
    place = f"application {form.app_name}" if form.app_id else form.app_name
    return f"{form.title} ({place}, xmlns {form.xmlns})"


def _with_answers(keys: list[GeneratedColumn], form: Form, repeat: Path | None) -> list[GeneratedColumn]:
    questions = [q for q in form.questions if q.repeat == repeat and not q.is_group and q.type not in _NO_ANSWER]
    start = len(repeat or ())
    found: dict[str, tuple[Question, str | None]] = {}
    for question in questions:
        parts: list[str | None] = [part for part, _ in _GEOPOINT] if question.type == "Geopoint" else [None]
        for part in parts:
            found["/".join((*question.path, *([part] if part else [])))] = (question, part)
    wishes = [
        (key, identifier(*question.path[start:]) if part is None else _part_name(question.path[start:], part))
        for key, (question, part) in found.items()
    ]
    names = unique_identifiers(wishes, taken={column.name for column in keys})
    document = "repetition" if repeat else "form"
    answers = [_answer(names[key], question, part, document, start) for key, (question, part) in found.items()]
    return (keys + answers)[:MAX_COLUMNS]


def _part_name(path: Path, part: str) -> str:
    return f"{identifier(*path, max_bytes=50)}_{part}"


def _answer(name: str, question: Question, part: str | None, document: str, start: int) -> GeneratedColumn:
    # An answer with attributes is an object that holds its text under #text.
    path = question.path[start:]
    text = f"nullif(coalesce({document} #>> {text_array((*path, '#text'))}, {document} #>> {text_array(path)}), '')"
    cast, sql_type = "{column}", "text"
    if question.type in _SQL_TYPES:
        macro, sql_type = _SQL_TYPES[question.type]
        cast = "{{{{ safe_" + macro + "('{column}') }}}}"
    elif question.type == "MSelect":
        cast, sql_type = "{{{{ choices('{column}') }}}}", "text[]"
    elif part:
        position = [other for other, _ in _GEOPOINT].index(part) + 1
        cast, sql_type = "{{{{ geopoint_part('{column}', " + str(position) + ") }}}}", "double precision"
    return GeneratedColumn(
        name=name,
        type=sql_type,
        description=_about_question(question, part),
        path=question.path,
        label=question.label or None,
        translations=dict(question.translations),
        options=question.options,
        expression=text,
        cast=cast,
    )


def _about_question(question: Question, part: str | None) -> str:
    kind = (
        "Hidden value"
        if question.type == "DataBindOnly"
        else f"Question of type {question.type}"
        if question.type
        else "Answer"
    )
    label = f"{_one_line(question.label)} " if question.label and question.label != question.path[-1] else ""
    measure = f" {part.capitalize()} in {dict(_GEOPOINT)[part]}." if part else ""
    listed = [f"{option.value} = {_one_line(option.label)}" for option in question.options[:_MAX_OPTIONS]]
    more = "; ..." if len(question.options) > _MAX_OPTIONS else ""
    choices = f" Choices: {'; '.join(listed)}{more}." if listed else ""
    return f"{label}({kind} {'/'.join(question.path)}.){measure}{choices}"[:_MAX_DESCRIPTION]


def _one_line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _repetitions_sql(chain: Sequence[Path]) -> str:
    """One repetition arrives as an object, several as an array, none as nothing or as an object of blanks."""
    joins, document, start = [], "forms.form", 0
    for depth, path in enumerate(chain, start=1):
        value = f"{document} #> {text_array(path[start:])}"
        joins.append(f"""    cross join lateral jsonb_array_elements(
        case jsonb_typeof({value})
            when 'array' then {value}
            when 'object' then
                case
                    when jsonb_path_exists({value}, 'strict $.** ? (@.type() == "string" && @ != "")')
                        then jsonb_build_array({value})
                    else '[]'::jsonb
                end
            else '[]'::jsonb
        end
    ) with ordinality as r{depth} (value, position)""")
        document, start = f"r{depth}.value", len(path)
    last = len(chain)
    indices = [f"r{depth}.position" for depth in range(1, last + 1)]
    columns = [f"forms.{key}" for key in _FORM_KEYS] + [
        f"concat_ws('-', forms.form_id, {', '.join(indices)}) as repeat_id",
        f"r{last}.position as repeat_index",
    ]
    if last > 1:
        columns.append(f"r{last - 1}.position as parent_index")
        columns.append(f"concat_ws('-', forms.form_id, {', '.join(indices[:-1])}) as parent_repeat_id")
    columns.append(f"r{last}.value as repetition")
    return f"""repetitions as (

    select
{_lines(columns, indent=8)}
    from forms
{chr(10).join(joins)}

),

"""  # noqa: S608 - only literals and names made by sql_text


def _answers_sql(
    xmlns: str,
    repetitions: str,
    keys: Sequence[str],
    facts: str,
    columns: Sequence[GeneratedColumn],
    *,
    source: str,
    document: str,
) -> str:
    texts = _lines(
        (f"{column.expression} as {quoted(column.name)}" for column in columns if column.expression),
        indent=8,
        lead=True,
    )
    values = _lines(
        f"{column.cast.format(column=quoted(column.name))} as {quoted(column.name)}"
        if column.expression
        else column.name
        for column in columns
    )
    return f"""with

-- The JSON is unpacked once per row, not once per column.
forms as (

    select
{_lines(_FORM_KEYS, indent=8)},
        metadata,
        form || '{{}}'::jsonb as form
    from {{{{ ref('forms') }}}}
    where xmlns = {literal(xmlns)}
    offset 0

),

{repetitions}answers as (

    select
{facts}{_lines(keys, indent=8)}{texts}
    from {source}
    offset 0

)

select
{values}
from answers
"""  # noqa: S608 - only literals and names made by sql_text


# Files


def _table(
    name: str, kind: Kind, source: str, about: str, columns: Sequence[GeneratedColumn], sql: str, *, key: str
) -> GeneratedTable:
    indexed = ["repeat_id", "form_id"] if kind == "repeat" else [key]
    model: dict[str, Any] = {
        "name": name,
        "description": yaml_text(_one_line(about)),
        "config": {"indexes": [{"columns": [column]} for column in indexed]},
        "data_tests": [{"primary_key": {"arguments": {"columns": [key]}}}],
        "columns": [{"name": column.name, "description": yaml_text(column.description)} for column in columns],
    }
    properties = yaml.safe_dump({"models": [model]}, sort_keys=False, allow_unicode=True, width=10_000)
    return GeneratedTable(name, kind, source, _one_line(about), tuple(columns), sql, properties)


def _lines(items: Iterable[str], *, indent: int = 4, lead: bool = False) -> str:
    """Items one per line, separated by commas; `lead`: with a comma before the first."""
    text = ",\n".join(" " * indent + item for item in items)
    return f",\n{text}" if lead and text else text
