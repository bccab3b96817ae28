"""From which columns is a column computed, which are computed from it, and which question or property stands behind it?

Walks what the tenant's runs have left of its models' lineage, and reads the discovered structure. What is not known is said to be
unknown, never guessed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage
from mcp_bridge.answers.envelope import without_nulls

_MAX_DEPTH = 8
_MAX_PARENTS = 12
_MAX_COLUMNS = 15
_MAX_FORMS = 10
_MAX_OPTIONS = 25

Path = tuple[str, ...]
# Raw table to what it is loaded from, {name, endpoint}.
Resources = Mapping[str, dict[str, str]]


def made_from(lineage: Lineage, resources: Resources, table: str, column: str) -> list[dict[str, Any]] | None:
    """The nearest columns and, below each, what they come from in turn, down to the resource of the source system:
    `[{table, column, path?, expression?, made_from?, resource?}]`.

    `path`: where the value lies in a column that holds JSON. Empty for a constant or a count of rows; None when it is unknown.
    """
    return _above(lineage, resources, table, column, (), _MAX_DEPTH)


def _above(
    lineage: Lineage, resources: Resources, table: str, column: str, path: Path, depth: int
) -> list[dict[str, Any]] | None:
    known = lineage.get(table, {}).get(column)
    if known is None or not depth:
        return None
    rows = []
    for origin in known.origins[:_MAX_PARENTS]:
        inner = (*origin.path, *path)
        row = {
            "table": origin.table,
            "column": origin.column,
            "path": "/".join(inner) or None,
            "expression": known.expression,
            "resource": resources.get(origin.table),
            "made_from": _above(lineage, resources, origin.table, origin.column, inner, depth - 1) or None,
        }
        rows.append(without_nulls(row))
    if len(known.origins) > _MAX_PARENTS:
        rows.append({"more": len(known.origins) - _MAX_PARENTS})
    return rows


def used_by(lineage: Lineage, table: str, column: str) -> list[dict[str, Any]]:
    """Columns computed from this one, nearest tables first: `[{table, column_count, columns: [{column, path?}]}]`.

    `path`: which part of this column, where it holds JSON.
    """
    below = _readers(lineage)
    found: dict[str, dict[str, str]] = {}
    found_before = {(table, column)}
    unread: list[tuple[str, str, Path]] = [(table, column, ())]
    for at_table, at_column, path in unread:
        for name, reader, inner in below.get((at_table, at_column), ()):
            if (name, reader) not in found_before:
                found_before.add((name, reader))
                found.setdefault(name, {})[reader] = "/".join((*path, *inner))
                unread.append((name, reader, (*path, *inner)))
    return [
        {
            "table": name,
            "column_count": len(columns),
            "columns": [
                without_nulls({"column": reader, "path": path or None})
                for reader, path in list(columns.items())[:_MAX_COLUMNS]
            ],
        }
        for name, columns in found.items()
    ]


def _readers(lineage: Lineage) -> dict[tuple[str, str], list[tuple[str, str, Path]]]:
    below: dict[tuple[str, str], list[tuple[str, str, Path]]] = {}
    for name, columns in lineage.items():
        for column, known in columns.items():
            for origin in known.origins:
                below.setdefault((origin.table, origin.column), []).append((name, column, origin.path))
    return below


def resources_of(lineage: Lineage, resources: Resources, table: str) -> list[dict[str, str]]:
    """What a table is loaded from in the end, over all of its columns."""
    found_before, unread = {table}, [table]
    for name in unread:
        parents = {origin.table for known in lineage.get(name, {}).values() for origin in known.origins}
        unread += sorted(parents - found_before)
        found_before |= parents
    return [resources[name] for name in unread if name in resources]


def origin_of(kind: str, source: str | None, structure: dict[str, Any] | None) -> dict[str, Any] | str:
    """Which applications, form or case type a generated table stands for; `unknown` when the structure does not tell."""
    if structure is None or source is None:
        return "unknown"
    if kind == "case_type":
        known = next((c for c in structure.get("case_types", ()) if c["name"] == source), None)
        return {"case_type": source, "apps": _apps(known["app_ids"], structure)} if known else "unknown"
    form = _form(kind, source, structure)
    if form is None:
        return "unknown"
    repeat = {"repeat": source.rpartition(" ")[2]} if kind == "repeat" else {}
    return {**_named(form, structure), "module": form["module"], **repeat}


def question_of(
    known: ColumnLineage | None, source: str | None, facts: Mapping[str, Any], structure: dict[str, Any] | None
) -> dict[str, Any]:
    """`{question}` or `{property}` or `{index}` behind a column of `known` lineage; empty when none stands behind it.

    Of a property of case type `source`, also the questions that are known under its name, since applications do not say which
    question saves to it.
    """
    path = facts.get("path")
    if not path:
        return {}
    if known is None or not any(origin.table == "cases" for origin in known.origins):
        return {"question": without_nulls({"path": "/".join(path), **_words(facts)})}
    if len(path) > 1:
        return {"index": {"identifier": path[0], "part": path[1]}}
    row: dict[str, Any] = {"name": path[0], **_words(facts)}
    if source is None or structure is None:
        return {"property": without_nulls({**row, "asked_by": "unknown"})}
    found = list(_asked_by(source, path[0], structure))
    note = (
        "Applications do not say which question saves to which property: asked_by are the questions of the same name in forms of "
        "this case type."
        if found
        else "No question of this name is in a form of this case type; it may be calculated or saved under another name."
    )
    row |= {"asked_by": found[:_MAX_FORMS], "note": note}
    more = {"more_questions": len(found) - _MAX_FORMS} if len(found) > _MAX_FORMS else {}
    return {"property": without_nulls(row) | more}


def _asked_by(case_type: str, name: str, structure: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for form in structure.get("forms", ()):
        if form["case_type"] != case_type:
            continue
        for question in form["questions"]:
            plain = not question["is_group"] and not question["repeat"] and question["type"] != "SaveToCase"
            if plain and question["path"][-1] == name:
                row = {"question": "/".join(question["path"]), "type": question["type"], "label": question["label"]}
                yield without_nulls({**_named(form, structure), **row})


def _words(facts: Mapping[str, Any]) -> dict[str, Any]:
    options = [option["value"] for option in facts.get("options", ())]
    return {
        "type": facts.get("question_type"),
        "label": facts.get("label"),
        "translations": facts.get("translations"),
        "options": options[:_MAX_OPTIONS] or None,
    }


def _form(kind: str, source: str, structure: dict[str, Any]) -> dict[str, Any] | None:
    # A repeat group's source is the form's xmlns, which may hold anything, and the path of the group, which holds no space.
    xmlns = source.rpartition(" ")[0] if kind == "repeat" else source
    return next((form for form in structure.get("forms", ()) if form["xmlns"] == xmlns), None)


def _named(form: dict[str, Any], structure: dict[str, Any]) -> dict[str, Any]:
    app_ids = form["app_ids"] or [form["app_id"]]
    return {"form": form["title"], "xmlns": form["xmlns"], "apps": _apps(app_ids, structure)}


def _apps(ids: Any, structure: dict[str, Any]) -> list[dict[str, str]]:
    names = {app["id"]: app["name"] for app in structure.get("apps", ())}
    return [{"id": app_id, "name": names.get(app_id, app_id)} for app_id in ids]
