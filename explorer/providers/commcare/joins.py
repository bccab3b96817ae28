"""How do case, form and repeat tables join: to the marts they are cut from, to each other, along relations between cases?"""

from collections.abc import Iterator, Mapping, Sequence

from explorer.contract.joins import Join, Joinable

KEYS: Mapping[str, str] = {"case_type": "case_id", "form": "form_id", "repeat": "repeat_id"}
"""Kind of a generated table to the column that names a row."""
# What the rows of a generated table are cut from, by its kind; it carries the key of that mart, and columns of it.
_MART = {"case_type": "cases", "form": "forms", "repeat": "forms"}
_MART_KEY = {"cases": "case_id", "forms": "form_id"}
_INDEX = "_case_id"

PATTERNS = (
    ("case_type", "cases.case_id", "case_<type>.case_id = cases.case_id"),
    (
        "case_type",
        "cases.case_id",
        "case_<type>.parent_case_id = cases.case_id (the parent; other relations alike)",
    ),
    ("form", "forms.form_id", "form_<name>.form_id = forms.form_id"),
    ("form", "cases.case_id", "form_<name>.case_id = cases.case_id"),
    (
        "repeat",
        "cases.case_id",
        "form_<name>__<repeat>.case_id = cases.case_id (where entries have cases of their own)",
    ),
    ("repeat", "forms.form_id", "form_<name>__<repeat>.form_id = form_<name>.form_id"),
)
"""How all tables of a kind join: the kind, the column of the other side, and the join in short."""


def joins_of(table: str, tables: Mapping[str, Joinable], common: Mapping[str, Sequence[str]]) -> Iterator[Join]:
    """Joins of `table`, those to what it is made of first. `common`: frequent values of its columns: which case types occur in
    `parent_case_type`."""
    yield from _to_mart(table, tables[table])
    yield from _within_form(table, tables)
    yield from _to_other_cases(table, tables, common)


def _to_mart(table: str, own: Joinable) -> Iterator[Join]:
    if own.kind in _MART:
        mart = _MART[own.kind]
        yield f"{table}.{_MART_KEY[mart]}", f"{mart}.{_MART_KEY[mart]}", f"The row of {mart} that this row is cut from."
    if own.kind in ("form", "repeat"):
        what = "submission as a whole" if own.kind == "form" else "entry"
        yield f"{table}.case_id", "cases.case_id", f"The case that the {what} is about."
        for column, path in own.blocks.items():
            yield f"{table}.{column}", "cases.case_id", f"The case of the block at {path}."
        key = KEYS[own.kind]
        yield (
            f"{table}.{key}",
            f"form_cases.{key}",
            f"What the {what} did to which cases, one row per block and action.",
        )


def _within_form(table: str, tables: Mapping[str, Joinable]) -> Iterator[Join]:
    """From a form to its repeat groups and back, from a repeat group to those inside it and back."""
    own = tables[table]
    if own.kind not in ("form", "repeat") or own.source is None:
        return
    by_source = {other.source: name for name, other in tables.items() if other.kind in ("form", "repeat")}
    if own.kind == "repeat":
        form, _, path = own.source.rpartition(" ")
        if form in by_source:
            yield f"{table}.form_id", f"{by_source[form]}.form_id", "The form submission that the entry is part of."
        outer = _outer(form, path, by_source)
        if outer is not None:
            yield f"{table}.parent_repeat_id", f"{outer}.repeat_id", "The entry of the group around it."
    for name, other in tables.items():
        if other.kind != "repeat" or other.source is None or name == table:
            continue
        form, _, path = other.source.rpartition(" ")
        if own.kind == "form" and form == own.source:
            yield f"{table}.form_id", f"{name}.form_id", "The entries of the repeat group, several per submission."
        elif own.kind == "repeat" and _outer(form, path, by_source) == table:
            yield (
                f"{table}.repeat_id",
                f"{name}.parent_repeat_id",
                "The entries of the group inside, several per entry.",
            )


def _outer(form: str, path: str, by_source: Mapping[str | None, str]) -> str | None:
    """The table of the nearest repeat group around the one at `path`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        if f"{form} {path}" in by_source:
            return by_source[f"{form} {path}"]
    return None


def _to_other_cases(table: str, tables: Mapping[str, Joinable], indexed: Mapping[str, Sequence[str]]) -> Iterator[Join]:
    """Along the relations between cases: `parent_case_id` and its like."""
    if tables[table].kind != "case_type":
        return
    of_type = {other.source: name for name, other in tables.items() if other.kind == "case_type"}
    for column in tables[table].columns:
        if column.endswith(_INDEX):
            relation = column.removesuffix(_INDEX)
            for case_type in indexed.get(f"{relation}_case_type", ()):
                if case_type in of_type:
                    yield (
                        f"{table}.{column}",
                        f"{of_type[case_type]}.case_id",
                        f"Its {relation}, when that is a {case_type}.",
                    )
            yield f"{table}.{column}", "cases.case_id", f"The case that this one has as its {relation}."
