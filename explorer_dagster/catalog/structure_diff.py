"""What changed between two structures of a project space (`Structure.to_dict` of `explorer_dagster.commcare`)."""

from collections.abc import Callable, Iterable
from typing import Any

Structure = dict[str, Any]
Named = dict[str, dict[str, Any]]


def structure_diff(old: Structure, new: Structure) -> dict[str, Any]:
    """Added, removed and changed parts; parts that did not change are left out, equal structures give `{}`.

    Returns:
        `{apps: {added, removed, changed}, case_types: {added, removed, properties_added{type: []}, properties_removed{type: []}},
        forms: {added, removed, questions_added{xmlns: []}, questions_removed{xmlns: []}, questions_retyped{xmlns: [{question,
        old, new}]}}}`. Apps by id, case types by name, forms by xmlns, questions by path joined with `/`.
    """
    diff = {
        "apps": _apps(_by(old, "apps", "id"), _by(new, "apps", "id")),
        "case_types": _case_types(_by(old, "case_types", "name"), _by(new, "case_types", "name")),
        "forms": _forms(_by(old, "forms", "xmlns"), _by(new, "forms", "xmlns")),
    }
    return {part: changes for part, changes in diff.items() if changes}


def _by(structure: Structure, part: str, key: str) -> Named:
    return {str(item[key]): item for item in structure.get(part) or []}


def _apps(old: Named, new: Named) -> dict[str, Any]:
    changed = sorted(id_ for id_ in old.keys() & new.keys() if old[id_] != new[id_])
    return _filled({**_membership(old, new), "changed": changed})


def _case_types(old: Named, new: Named) -> dict[str, Any]:
    def properties(case_type: dict[str, Any]) -> set[str]:
        return set(case_type.get("properties") or [])

    return _filled(
        {
            **_membership(old, new),
            "properties_added": _per_item(old, new, lambda was, now: sorted(properties(now) - properties(was))),
            "properties_removed": _per_item(old, new, lambda was, now: sorted(properties(was) - properties(now))),
        }
    )


def _forms(old: Named, new: Named) -> dict[str, Any]:
    return _filled(
        {
            **_membership(old, new),
            "questions_added": _per_item(old, new, lambda was, now: sorted(_types(now).keys() - _types(was).keys())),
            "questions_removed": _per_item(old, new, lambda was, now: sorted(_types(was).keys() - _types(now).keys())),
            "questions_retyped": _per_item(old, new, _retyped),
        }
    )


def _types(form: dict[str, Any]) -> dict[str, str | None]:
    return {"/".join(question["path"]): question.get("type") for question in form.get("questions") or []}


def _retyped(was: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    old, new = _types(was), _types(now)
    both = sorted(old.keys() & new.keys())
    return [{"question": path, "old": old[path], "new": new[path]} for path in both if old[path] != new[path]]


def _membership(old: Named, new: Named) -> dict[str, list[str]]:
    return {"added": sorted(new.keys() - old.keys()), "removed": sorted(old.keys() - new.keys())}


def _per_item(
    old: Named, new: Named, compare: Callable[[dict[str, Any], dict[str, Any]], Iterable[Any]]
) -> dict[str, Iterable[Any]]:
    return _filled({name: compare(old[name], new[name]) for name in sorted(old.keys() & new.keys())})


def _filled(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if value}
