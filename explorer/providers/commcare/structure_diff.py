"""What changed between two structures of a project space (`Structure.to_dict`)? For programs, and in sentences for people."""

from collections.abc import Callable, Iterable
from typing import Any

Structure = dict[str, Any]
Named = dict[str, dict[str, Any]]


def structure_diff(old: Structure, new: Structure) -> dict[str, Any]:
    """Added, removed and changed parts; unchanged parts are left out, and equal structures give `{}`.

    Returns:
        `{apps: {added, removed, changed}, case_types: {added, removed, properties_added{type: []}, properties_removed{type: []}},
        forms: {added, removed, questions_added{xmlns: []}, questions_removed{xmlns: []}, questions_retyped{xmlns: [{question,
        old, new}]}, questions_reworded{xmlns: []}}, names: {id or xmlns: name}}`. Apps by id, case types by name, forms by xmlns,
        questions by path joined with `/`; `names`: of the apps and forms that are mentioned.
    """
    diff = {
        "apps": _apps(_by(old, "apps", "id"), _by(new, "apps", "id")),
        "case_types": _case_types(_by(old, "case_types", "name"), _by(new, "case_types", "name")),
        "forms": _forms(_by(old, "forms", "xmlns"), _by(new, "forms", "xmlns")),
    }
    names = {key: name for structure in (old, new) for key, name in _names(structure).items()}
    mentioned = {key for part in ("apps", "forms") for items in diff[part].values() for key in items}
    diff["names"] = {key: names[key] for key in sorted(mentioned) if key in names}
    return {part: changes for part, changes in diff.items() if changes}


def headline(diff: dict[str, Any]) -> str:
    """The diff in one line, such as `3 questions new, 1 question of another type, 1 form gone`; `nothing` for none."""
    counts = [
        (_count(diff, part, item), thing, how)
        for part, item, thing, how in (
            ("apps", "added", "application", "new"),
            ("apps", "removed", "application", "gone"),
            ("case_types", "added", "case type", "new"),
            ("case_types", "removed", "case type", "gone"),
            ("case_types", "properties_added", "property|properties", "new"),
            ("case_types", "properties_removed", "property|properties", "gone"),
            ("forms", "added", "form", "new"),
            ("forms", "removed", "form", "gone"),
            ("forms", "questions_added", "question", "new"),
            ("forms", "questions_removed", "question", "gone"),
            ("forms", "questions_retyped", "question", "of another type"),
            ("forms", "questions_reworded", "question", "in other words"),
        )
    ]
    told = [f"{count} {_plural(thing, count)} {how}" for count, thing, how in counts if count]
    changed = len(diff.get("apps", {}).get("changed", ()))
    # A new version of an application has a new number even when nothing else changed.
    return ", ".join(told) or (
        f"{changed} {_plural('application', changed)} changed, no question" if changed else "nothing"
    )


def sentences(diff: dict[str, Any]) -> list[str]:
    """The diff for people, a line per application, case type and form, with names as people typed them."""
    names = diff.get("names", {})
    lines = []
    for part, thing in (("apps", "Application"), ("case_types", "Case type"), ("forms", "Form")):
        changes = diff.get(part, {})
        for how, said in (("added", "is new"), ("removed", "is gone"), ("changed", "has another version")):
            lines += [f"{thing} {names.get(key, key)!r} {said}." for key in changes.get(how, ())]
        for key in sorted({key for items in changes.values() if isinstance(items, dict) for key in items}):
            told = [
                text for how, say in _SAID.items() if (items := changes.get(how, {}).get(key)) and (text := say(items))
            ]
            lines.append(f"{thing} {names.get(key, key)!r}: {'; '.join(told)}.")
    return lines


def _listed(thing: str, how: str) -> Callable[[list[str]], str]:
    return lambda items: f"{len(items)} {_plural(thing, len(items))} {how} ({', '.join(items)})"


def _of_another_type(items: list[dict[str, Any]]) -> str:
    said = ", ".join(f"{item['question']} from {item['old']} to {item['new']}" for item in items)
    return f"{len(items)} {_plural('question', len(items))} of another type ({said})"


_SAID: dict[str, Callable[[list[Any]], str]] = {
    "properties_added": _listed("property|properties", "new"),
    "properties_removed": _listed("property|properties", "gone"),
    "questions_added": _listed("question", "new"),
    "questions_removed": _listed("question", "gone"),
    "questions_retyped": _of_another_type,
    "questions_reworded": _listed("question", "with other words or choices"),
}


def _plural(thing: str, count: int) -> str:
    one, _, many = thing.partition("|")
    return one if count == 1 else many or f"{one}s"


def _count(diff: dict[str, Any], part: str, item: str) -> int:
    found = diff.get(part, {}).get(item, ())
    return sum(map(len, found.values())) if isinstance(found, dict) else len(found)


def _names(structure: Structure) -> dict[str, str]:
    apps = {str(app["id"]): str(app.get("name") or app["id"]) for app in structure.get("apps") or []}
    forms = {str(form["xmlns"]): str(form.get("title") or form["xmlns"]) for form in structure.get("forms") or []}
    return apps | forms


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
            "questions_reworded": _per_item(old, new, _reworded),
        }
    )


def _types(form: dict[str, Any]) -> dict[str, str | None]:
    return {"/".join(question["path"]): question.get("type") for question in form.get("questions") or []}


def _retyped(was: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    old, new = _types(was), _types(now)
    both = sorted(old.keys() & new.keys())
    return [{"question": path, "old": old[path], "new": new[path]} for path in both if old[path] != new[path]]


def _reworded(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Questions of the same type with another label, translation or choice."""
    old, new = (
        {"/".join(question["path"]): question for question in form.get("questions") or []} for form in (was, now)
    )
    both = sorted(old.keys() & new.keys())
    return [path for path in both if old[path] != new[path] and old[path].get("type") == new[path].get("type")]


def _membership(old: Named, new: Named) -> dict[str, list[str]]:
    return {"added": sorted(new.keys() - old.keys()), "removed": sorted(old.keys() - new.keys())}


def _per_item(
    old: Named, new: Named, compare: Callable[[dict[str, Any], dict[str, Any]], Iterable[Any]]
) -> dict[str, Iterable[Any]]:
    return _filled({name: compare(old[name], new[name]) for name in sorted(old.keys() & new.keys())})


def _filled(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if value}
