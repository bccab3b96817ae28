"""How is the SQL of a case type's, a form's and a repeat group's table written?

Each reads its JSON once per row (`forms` or `cases`); `tables.select` writes the rest.
"""

from collections.abc import Iterable, Sequence

from explorer.tables.select import lines, select_sql
from explorer.tables.sql_text import literal, text_array
from explorer.tables.values import ColumnSpec, Path

_NOT_OBJECTS = (
    """'strict $[*] ? (@.type() == "string" && @ != "" || @.type() == "number" || @.type() == "boolean" || """
    """@.type() == "array" && @.size() > 0)'"""
)
_ANSWERS = """'strict $.** ? (@.type() == "string" && @ != "" || @.type() == "number" || @.type() == "boolean")'"""


def answer_text(document: str, path: Path, *, may_be_list: bool, joined: bool) -> str:
    """SQL for the text of the answer at `path`. An answer with attributes is an object; its text is under #text.

    `may_be_list`: whether it may be a list. The list's objects are repetitions, with rows of their own; the rest becomes JSON
    text, or is `joined` by blanks like the answers to a multiple-select question.
    """
    if path[-1] == "#text":
        # The text of a list entry; its attributes belong to no question.
        return f"nullif({document} #>> {text_array(path)}, '')"
    place = f"{document} #> {text_array(path)}"
    cases = f"when 'object' then {document} #>> {text_array((*path, '#text'))}"
    if may_be_list:
        items = f"jsonb_path_query_array({place}, {_NOT_OBJECTS})"
        text = f"array_to_string(array(select jsonb_array_elements_text({items})), ' ')" if joined else f"{items}::text"
        cases += f" when 'array' then nullif({text}, '[]')"
    return f"nullif(case jsonb_typeof({place}) {cases} else {document} #>> {text_array(path)} end, '')"


def case_id_text(document: str, path: Path) -> str:
    """SQL for the case id of the block at `path`: an attribute, or an element in version 1 of case blocks. For a list of blocks
    it is the id that all of them share, or NULL."""
    block = f"{document} #> {text_array(path)}"
    identity = "nullif(coalesce({0} ->> '@case_id', {0} ->> 'case_id'), '')"
    one, each = identity.format(f"({block})"), identity.format("block.value")
    rows = f"jsonb_array_elements({block}) as block (value)"
    listed = f"select min({each}) from {rows} having count(distinct {each}) = 1"  # noqa: S608
    return f"case jsonb_typeof({block}) when 'array' then ({listed}) else {one} end"


def case_sql(case_type: str, columns: Sequence[ColumnSpec]) -> str:
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
    return select_sql(head, "cases", columns)


def form_sql(xmlns: str, taken: Iterable[str], columns: Sequence[ColumnSpec]) -> str:
    """The model of a form; `taken`: columns of `forms` that it selects unchanged."""
    return select_sql(_forms(xmlns, taken), "forms", columns)


def repeat_sql(xmlns: str, taken: Sequence[str], chain: Sequence[Path], columns: Sequence[ColumnSpec]) -> str:
    """The model of a repeat group; `chain`: the repeat groups around it from the outermost on, itself last."""
    return select_sql(_forms(xmlns, taken) + _repetitions(taken, chain), "repetitions", columns)


def _forms(xmlns: str, taken: Iterable[str]) -> str:
    return f"""-- The JSON is unpacked once per row, not once per column.
forms as (

    select
{lines(taken, indent=8)},
        metadata,
        attachments as _attachments,
        form || '{{}}'::jsonb as form
    from {{{{ ref('forms') }}}}
    where xmlns = {literal(xmlns)} and {{{{ is_wanted('form_id') }}}}
    offset 0

),

"""  # noqa: S608 - only literals and names made by sql_text


def _repetitions(taken: Sequence[str], chain: Sequence[Path]) -> str:
    """A single repetition is an object, several are an array, none is missing or an object of blanks. Other entries of an array,
    or the text of the object, are an answer of the surrounding row."""
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
{lines(columns, indent=8)}
    from forms
{chr(10).join(joins)}
    where {" and ".join(f"jsonb_typeof(r{depth}.value) = 'object'" for depth in range(1, last + 1))}

),

"""  # noqa: S608 - only literals and names made by sql_text
