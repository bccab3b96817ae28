"""Which SQL reads the rows and answers of a case type, a form and a repeat group? `tables.select` writes the rest."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from explorer.tables.select import lines
from explorer.tables.sql_text import literal, text_array
from explorer.tables.values import Path, Rows

_NOT_OBJECTS = (
    """'strict $[*] ? (@.type() == "string" && @ != "" || @.type() == "number" || @.type() == "boolean" || """
    """@.type() == "array" && @.size() > 0)'"""
)
# The JSON is unpacked once per row, not once per column.
_UNPACKED_CASES = "select *, properties || '{}'::jsonb as unpacked\nfrom source\noffset 0"
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


def case_rows(case_type: str) -> Rows:
    """The cases of a case type."""
    return Rows("cases", "case_id", f"case_type = {literal(case_type)}", (("unpacked_cases", _UNPACKED_CASES),))


def form_rows(xmlns: str, taken: Iterable[str]) -> Rows:
    """The submissions of a form; `taken`: columns of `forms` that its table has unchanged."""
    return Rows("forms", "form_id", f"xmlns = {literal(xmlns)}", (("submissions", _submissions(taken)),))


def repeat_rows(xmlns: str, taken: Sequence[str], chain: Sequence[Path]) -> Rows:
    """The repetitions of a repeat group; `chain`: the repeat groups around it from the outermost on, itself last."""
    rows = form_rows(xmlns, taken)
    return replace(rows, queries=(*rows.queries, ("repetitions", _repetitions(taken, chain))))


def _submissions(taken: Iterable[str]) -> str:
    return f"""select
{lines(taken)},
    metadata,
    attachments as _attachments,
    form || '{{}}'::jsonb as form
from source
offset 0"""  # noqa: S608 - only names made by sql_text


def _repetitions(taken: Sequence[str], chain: Sequence[Path]) -> str:
    """A single repetition is an object, several are an array, none is missing or an object of blanks. Other entries of an array,
    or the text of the object, are an answer of the surrounding row."""
    joins, document, start = [], "submissions.form", 0
    for depth, path in enumerate(chain, start=1):
        value = f"{document} #> {text_array(path[start:])}"
        joins.append(f"""cross join lateral jsonb_array_elements(
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
    columns = [f"submissions.{key}" for key in (*taken, "_attachments")] + [
        f"concat_ws('-', submissions.form_id, {', '.join(indices)}) as repeat_id",
        f"r{last}.position as repeat_index",
    ]
    if last > 1:
        columns.append(f"r{last - 1}.position as parent_index")
        columns.append(f"concat_ws('-', submissions.form_id, {', '.join(indices[:-1])}) as parent_repeat_id")
    columns.append(f"r{last}.value as repetition")
    return f"""select
{lines(columns)}
from submissions
{chr(10).join(joins)}
where {" and ".join(f"jsonb_typeof(r{depth}.value) = 'object'" for depth in range(1, last + 1))}"""  # noqa: S608 - only literals and names made by sql_text
