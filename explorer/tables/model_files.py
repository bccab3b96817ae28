"""How is a generated table's model written: its SQL and its dbt properties, from columns that know how they are computed.

A model reads its JSON once per row (`forms` or `cases`), takes the texts out of it (`answers`), casts them (`typed`) and last
computes what depends on typed values. Names that begin with `_` are its own: no generated name does.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from explorer.providers.commcare.structure import Option
from explorer.tables.sql_text import description as yaml_text
from explorer.tables.sql_text import literal, quoted, shown, text_array, yaml_document

Path = tuple[str, ...]

UNFIT = "unfit_columns"
_NOT_OBJECTS = (
    """'strict $[*] ? (@.type() == "string" && @ != "" || @.type() == "number" || @.type() == "boolean" || """
    """@.type() == "array" && @.size() > 0)'"""
)
_ANSWERS = """'strict $.** ? (@.type() == "string" && @ != "" || @.type() == "number" || @.type() == "boolean")'"""
_ABOUT_UNFIT = (
    "Columns of this row whose value did not fit: NULL here because it is no such number, date or time, or kept although it is"
    " none of the question's choices. Of a place that is none, the latitude stands for all its parts. NULL when all fit. The"
    " value as it came is in {document}."
)


class GeneratedColumn(msgspec.Struct, frozen=True):
    """One column. `path`: keys below the form's root, or the case property; None for key columns. `label`, `translations`,
    `options`: the question's own words, as upstream wrote them. `question_type`: CommCare's name of it, None when no question
    stands behind the column. The rest is SQL, empty where it does not apply."""

    name: str
    type: str
    description: str
    path: Path | None = None
    label: str | None = None
    translations: dict[str, str] = {}
    options: tuple[Option, ...] = ()
    question_type: str | None = None
    document: str = ""
    """The JSON column of the mart that `path` leads through, where that is not the answers or properties."""
    values: dict[str, Any] = {}
    """What the values seen tell of the column, for `describe_table`; no part of the model, since it changes with each load."""
    reads: Path | None = None
    """Keys below the form's root to what a column holds that stands for no question, such as the id of a case."""
    reads_attachments: bool = False
    text: str = ""
    """The text value, of the row's JSON. Without it, and without `value`, the column is taken as it is."""
    cast: str = ""
    """The typed value; `{text}` stands for the text value."""
    value: str = ""
    """The value, of the typed columns of the row."""
    misfit: str = ""
    """Whether the value does not fit; of the typed columns, `{text}` stands for the text value."""


def unfit_column(document: str) -> GeneratedColumn:
    """The column that tells what did not fit; `document`: where the values are as they came."""
    return GeneratedColumn(UNFIT, "text[]", _ABOUT_UNFIT.format(document=document))


def answer_text(document: str, path: Path, *, may_be_list: bool, joined: bool) -> str:
    """SQL for the text of the answer at `path`: of an answer with attributes, which is an object, what it holds under #text.

    `may_be_list`: whether there may be a list in its place. Of that the objects are repetitions, rows of their own; the rest is
    kept as JSON text, or `joined` by blanks as the answers to a multiple-select question are.
    """
    if path[-1] == "#text":
        # The text of an entry of a list; what it may be beyond a text is no question's.
        return f"nullif({document} #>> {text_array(path)}, '')"
    place = f"{document} #> {text_array(path)}"
    cases = f"when 'object' then {document} #>> {text_array((*path, '#text'))}"
    if may_be_list:
        items = f"jsonb_path_query_array({place}, {_NOT_OBJECTS})"
        text = f"array_to_string(array(select jsonb_array_elements_text({items})), ' ')" if joined else f"{items}::text"
        cases += f" when 'array' then nullif({text}, '[]')"
    return f"nullif(case jsonb_typeof({place}) {cases} else {document} #>> {text_array(path)} end, '')"


def case_id_text(document: str, path: Path) -> str:
    """SQL for the id of the case whose block stands at `path`: an attribute, or an element in version 1 of case blocks. Of a list
    of blocks it is that of all of them, or NULL."""
    block = f"{document} #> {text_array(path)}"
    identity = "nullif(coalesce({0} ->> '@case_id', {0} ->> 'case_id'), '')"
    one, each = identity.format(f"({block})"), identity.format("block.value")
    rows = f"jsonb_array_elements({block}) as block (value)"
    listed = f"select min({each}) from {rows} having count(distinct {each}) = 1"  # noqa: S608
    return f"case jsonb_typeof({block}) when 'array' then ({listed}) else {one} end"


def case_sql(case_type: str, columns: Sequence[GeneratedColumn]) -> str:
    """The model of a case type."""
    head = f"""-- The JSON is unpacked once per row, not once per column.
cases as (

    select
        *,
        properties || '{{}}'::jsonb as unpacked
    from {{{{ ref('cases') }}}}
    where case_type = {literal(case_type)} and {{{{ is_wanted('case_id') }}}}
    offset 0

),

"""  # noqa: S608 - only literals and names made by sql_text
    return _select(head, "cases", columns)


def form_sql(xmlns: str, taken: Iterable[str], columns: Sequence[GeneratedColumn]) -> str:
    """The model of a form; `taken`: the columns of `forms` that it keeps as they are."""
    return _select(_forms(xmlns, taken), "forms", columns)


def repeat_sql(xmlns: str, taken: Sequence[str], chain: Sequence[Path], columns: Sequence[GeneratedColumn]) -> str:
    """The model of a repeat group; `chain`: the groups around it from the outside in, itself last."""
    return _select(_forms(xmlns, taken) + _repetitions(taken, chain), "repetitions", columns)


def properties_file(
    name: str,
    about: str,
    columns: Sequence[GeneratedColumn],
    *,
    key: str,
    rows_of: str,
    meta: Mapping[str, Any],
    parent: tuple[Sequence[str], str, str] | None,
) -> str:
    """The dbt properties of a model, YAML. `rows_of`: column with the case or submission that a row comes from. `parent`: columns
    that point to another table, that model, and its key."""
    # The origin of the columns stands once per model: dbt takes twice as long over `meta` of each column.
    origin = {column.name: shown("/".join(column.path)) for column in columns if column.path is not None}
    origin_of_row = {"rows_of": rows_of} if rows_of != key else {}
    tests: list[dict[str, Any]] = [{"primary_key": {"arguments": {"columns": [key], **origin_of_row}}}]
    counts_unfit_values = any(column.name == UNFIT for column in columns)
    if counts_unfit_values or parent:
        arguments: dict[str, Any] = {"misfits": counts_unfit_values, "rows_of": rows_of}
        if parent:
            arguments |= {"columns": list(parent[0]), "parent": f"ref('{parent[1]}')", "parent_key": parent[2]}
        tests.append({"values_fit": {"arguments": arguments}})
    model = {
        "name": name,
        "description": yaml_text(about),
        "config": {
            "indexes": [
                {"columns": [column]} for column in dict.fromkeys((key, rows_of, *(parent[0] if parent else ())))
            ],
            "meta": _as_yaml({**meta, "columns": origin}),
        },
        "data_tests": tests,
        "columns": [{"name": column.name, "description": yaml_text(column.description)} for column in columns],
    }
    return yaml_document({"models": [model]})


def _as_yaml(value: Any) -> Any:
    if isinstance(value, str):
        return yaml_text(value)
    if isinstance(value, Mapping):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, Collection) else value


def _select(head: str, source: str, columns: Sequence[GeneratedColumn]) -> str:
    own = {column.name: f"_{position}" for position, column in enumerate(columns) if column.cast}
    plain = [quoted(column.name) for column in columns if not column.text and not column.value and column.name != UNFIT]
    passed = [*plain, *(["_attachments"] if any(column.reads_attachments for column in columns) else [])]
    texts = [f"{column.text} as {own.get(column.name) or quoted(column.name)}" for column in columns if column.text]
    untyped = [quoted(column.name) for column in columns if column.text and not column.cast]
    casts = [
        f"{column.cast.format(text=own[column.name])} as {quoted(column.name)}" for column in columns if column.cast
    ]
    misfits = [
        f"case when {column.misfit.format(text=own.get(column.name, ''))} then {literal(column.name)} end"
        for column in columns
        if column.misfit
    ]
    values = [
        f"nullif(array_remove(array[\n{_lines(misfits, indent=8)}\n    ]::text[], null), '{{}}') as {UNFIT}"
        if column.name == UNFIT
        else f"{column.value} as {quoted(column.name)}"
        if column.value
        else quoted(column.name)
        for column in columns
    ]
    return f"""with

{head}answers as (

    select
{_lines([*passed, *texts], indent=8)}
    from {source}
    offset 0

),

typed as (

    select
{_lines([*passed, *untyped, *own.values(), *casts], indent=8)}
    from answers
    offset 0

)

select
{_lines(values)}
from typed
"""  # noqa: S608 - only literals and names made by sql_text


def _forms(xmlns: str, taken: Iterable[str]) -> str:
    return f"""-- The JSON is unpacked once per row, not once per column.
forms as (

    select
{_lines(taken, indent=8)},
        metadata,
        attachments as _attachments,
        form || '{{}}'::jsonb as form
    from {{{{ ref('forms') }}}}
    where xmlns = {literal(xmlns)} and {{{{ is_wanted('form_id') }}}}
    offset 0

),

"""  # noqa: S608 - only literals and names made by sql_text


def _repetitions(taken: Sequence[str], chain: Sequence[Path]) -> str:
    """One repetition arrives as an object, several as an array, none as nothing or as an object of blanks. What else stands in an
    array, or is the text of the object alone, is an answer of what lies around it."""
    joins, document, start = [], "forms.form", 0
    for depth, path in enumerate(chain, start=1):
        value = f"{document} #> {text_array(path[start:])}"
        joins.append(f"""    cross join lateral jsonb_array_elements(
        case jsonb_typeof({value})
            when 'array' then {value}
            when 'object' then
                case
                    when jsonb_path_exists(({value}) - '#text', {_ANSWERS})
                        then jsonb_build_array({value})
                    else '[]'::jsonb
                end
            else '[]'::jsonb
        end
    ) with ordinality as r{depth} (value, position)""")
        document, start = f"r{depth}.value", len(path)
    last = len(chain)
    indices = [f"r{depth}.position" for depth in range(1, last + 1)]
    columns = [f"forms.{key}" for key in (*taken, "_attachments")] + [
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
    where {" and ".join(f"jsonb_typeof(r{depth}.value) = 'object'" for depth in range(1, last + 1))}

),

"""  # noqa: S608 - only literals and names made by sql_text


def _lines(items: Iterable[str], *, indent: int = 4) -> str:
    """Items one per line, separated by commas."""
    return ",\n".join(" " * indent + item for item in items)
