"""Which cases does a submission or a repetition change, by its case blocks?"""

from msgspec.structs import replace

from explorer.providers.commcare.structure import Form
from explorer.providers.commcare.tables.paths import Path, innermost, key_of, path_of
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.questions import repeats_of
from explorer.providers.commcare.tables.sql import case_id_text
from explorer.tables.identifiers import identifier
from explorer.tables.memory import TableMemory
from explorer.tables.naming import column_names
from explorer.tables.parts import Field
from explorer.tables.sql_text import shown
from explorer.tables.values import ColumnSpec

# Column keys for the case of a block; and where a submission holds the user's case, which the form is not about.
_CASE = "\0case "
_USERCASE = ("commcare_usercase", "case")


def case_columns(
    form: Form, repeat: Path | None, profile: Profile, memory: TableMemory, keys: set[str]
) -> list[ColumnSpec]:
    """Columns for the cases of a row's own blocks, without blocks in repeats inside it. `case_id` first: of the block at the
    root, else of the only place that has blocks; a form always has this column. Then one column for each other place, named by
    its path.

    A column keeps its place for as long as the table exists.
    """
    seen, around = profile.forms.get(form.xmlns), repeat or ()
    repeats = set(repeats_of(form))
    root = (*around, "case")
    found = {path_of(key) for key in (seen.blocks if seen else ())}
    places = {place for place in found if innermost(place, repeats) == repeat} | set(map(path_of, memory.cases))
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
        column = ColumnSpec(
            "",
            "text",
            f"The case of the block at {shown('/'.join(place))}.",
            reads=(*place, "@case_id"),
            text=case_id_text(document, place[len(around) :]),
        )
        fields.append(Field(key_of(place), ((f"{_CASE}{key_of(place)}", wish, column),)))
    if main:
        what = "form as a whole" if repeat is None else "repetition"
        told = " or ".join(shown("/".join(place)) for place in main)
        column = ColumnSpec(
            "",
            "text",
            f"The case that the {what} is about, of the block at {told}; all cases it touched are in form_cases.",
            reads=(*main[0], "@case_id"),
            text=f"coalesce({', '.join(case_id_text(document, place[len(around) :]) for place in main)})",
        )
        fields.insert(0, Field(_CASE, ((_CASE, "case_id", column),)))
    reserved = {"case_id"} if repeat is None else set()
    names = {_CASE: "case_id"} if reserved else {}
    names |= column_names(
        [wish for each in fields if each.key not in names for wish in each.wishes], memory, keys | reserved
    )
    return [replace(column, name=names[key]) for each in fields for key, _, column in each.columns]
