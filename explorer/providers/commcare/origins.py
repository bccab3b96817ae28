"""What of a project space's applications stands behind a generated table and behind its columns? For agents.

Reads the discovered document as the catalog keeps it. What it does not tell is said to be unknown, never guessed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from explorer.contract.bookkeeping.lineage import ColumnLineage

_MAX_FORMS = 10
_MAX_OPTIONS = 25


def origin_of(kind: str, source: str | None, structure: Mapping[str, Any] | None) -> dict[str, Any] | str:
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
    known: ColumnLineage | None, source: str | None, facts: Mapping[str, Any], structure: Mapping[str, Any] | None
) -> dict[str, Any]:
    """`{question}` or `{property}` or `{index}` behind a column of `known` lineage; empty when none stands behind it.

    Of a property of case type `source`, also the questions that are known under its name, since applications do not say which
    question saves to it.
    """
    path = facts.get("path")
    tables = {origin.table for origin in known.origins} if known else {"forms"}
    if not path or not tables & {"cases", "forms"}:
        return {}
    if "cases" not in tables:
        return {"question": _filled({"path": "/".join(path), **_words(facts)})}
    if len(path) > 1:
        return {"index": {"identifier": path[0], "part": path[1]}}
    row: dict[str, Any] = {"name": path[0], **_words(facts)}
    if source is None or structure is None:
        return {"property": _filled({**row, "asked_by": "unknown"})}
    found = list(_asked_by(source, path[0], structure))
    note = (
        "Applications do not say which question saves to which property: asked_by are the questions of the same name in forms of "
        "this case type."
        if found
        else "No question of this name is in a form of this case type; it may be calculated or saved under another name."
    )
    row |= {"asked_by": found[:_MAX_FORMS], "note": note}
    more = {"more_questions": len(found) - _MAX_FORMS} if len(found) > _MAX_FORMS else {}
    return {"property": _filled(row) | more}


def _asked_by(case_type: str, name: str, structure: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for form in structure.get("forms", ()):
        if form["case_type"] != case_type:
            continue
        for question in form["questions"]:
            plain = not question["is_group"] and not question["repeat"] and question["type"] != "SaveToCase"
            if plain and question["path"][-1] == name:
                row = {"question": "/".join(question["path"]), "type": question["type"], "label": question["label"]}
                yield _filled({**_named(form, structure), **row})


def _words(facts: Mapping[str, Any]) -> dict[str, Any]:
    options = [option["value"] for option in facts.get("options", ())]
    return {
        "type": facts.get("question_type"),
        "label": facts.get("label"),
        "translations": facts.get("translations"),
        "options": options[:_MAX_OPTIONS] or None,
    }


def _form(kind: str, source: str, structure: Mapping[str, Any]) -> dict[str, Any] | None:
    # A repeat group's source is the form's xmlns, which may hold anything, and the path of the group, which holds no space.
    xmlns = source.rpartition(" ")[0] if kind == "repeat" else source
    return next((form for form in structure.get("forms", ()) if form["xmlns"] == xmlns), None)


def _named(form: Mapping[str, Any], structure: Mapping[str, Any]) -> dict[str, Any]:
    app_ids = form["app_ids"] or [form["app_id"]]
    return {"form": form["title"], "xmlns": form["xmlns"], "apps": _apps(app_ids, structure)}


def _apps(ids: Any, structure: Mapping[str, Any]) -> list[dict[str, str]]:
    names = {app["id"]: app["name"] for app in structure.get("apps", ())}
    return [{"id": app_id, "name": names.get(app_id, app_id)} for app_id in ids]


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None and value != [] and value != ""}
