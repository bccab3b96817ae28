"""What is the structure of this project space? Reads the application list and turns it into a `Structure`.

Facts about the answer (modules replaced by `{"error"}`, shared case types and xmlns, question paths with the XForm's root): see
Applications in docs/commcare_api.md. `tables` names tables and columns.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from explorer.http.client import ApiClient
from explorer.http.errors import PermissionMissing, ResponseMalformed
from explorer.providers.commcare.settings import SERVICE
from explorer.providers.commcare.structure import App, CaseType, Form, Module, Option, Question, Structure
from explorer.registry import Pipeline

_GROUP_TYPES = frozenset({"Group", "Repeat", "FieldList"})
# The type of a question whose copies disagree: a pair that is not listed becomes Text, which holds any answer.
_WIDER = {
    frozenset({"Int", "Long"}): "Long",
    frozenset({"Int", "Double"}): "Double",
    frozenset({"Long", "Double"}): "Double",
    frozenset({"Date", "DateTime"}): "DateTime",
    frozenset({"Select", "MSelect"}): "MSelect",
}


def discover(client: ApiClient, pipeline: Pipeline, known: dict[str, Any] | None = None) -> Structure:
    """Read the project space's applications.

    If the user's role does not include them, the rest of the project space can still be read: the structure is then that of
    `known`, the last document, or empty, with the refusal among its warnings. Parts that the server could not describe (a module
    with a broken form) become entries of `warnings`; the rest is complete.

    Raises:
        ResponseMalformed: the answer is not a list of applications.
        ApiError: the server refuses or fails.
    """
    resource = next(part for part in pipeline.discovery if part.name == "app_structure")
    try:
        body = client.get_json(resource.endpoint, resource=resource.name)
    except PermissionMissing as error:
        last = Structure.from_dict(known) if known else Structure(apps=(), case_types=(), forms=())
        return msgspec.structs.replace(last, warnings=(str(error),))
    objects = body.get("objects") if isinstance(body, dict) else None
    if not isinstance(objects, list):
        raise ResponseMalformed(
            "The application list has no `objects` list.",
            provider=SERVICE.name,
            next_step="Check the server's address; if it is a CommCare HQ server, report this to its operator.",
            details={"resource": resource.name, "page": 1},
        )
    return structure_of(objects)


def structure_of(applications: Iterable[Any]) -> Structure:
    """The `Structure` of the API's application objects, independent of their order."""
    reader = _Reader()
    for application in sorted((a for a in applications if isinstance(a, dict)), key=lambda a: str(a.get("id"))):
        reader.read_app(application)
    return reader.result()


@dataclass
class _Reader:
    apps: list[App] = field(default_factory=list)
    properties: dict[str, set[str]] = field(default_factory=dict)
    case_type_apps: dict[str, set[str]] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def result(self) -> Structure:
        case_types = tuple(
            CaseType(name, tuple(sorted(self.properties[name])), tuple(sorted(self.case_type_apps[name])))
            for name in sorted(self.properties)
        )
        forms = tuple(self.forms[xmlns] for xmlns in sorted(self.forms))
        return Structure(tuple(self.apps), case_types, forms, tuple(self.warnings))

    def read_app(self, raw: dict[str, Any]) -> None:
        app_id, name = _text(raw.get("id")), _text(raw.get("name"))
        label = name or app_id
        if not app_id:
            self.warnings.append(f"An application without an id ({label or 'no name'}) was left out.")
            return
        modules, broken = [], []
        for position, raw_module in enumerate(_list(raw.get("modules")), start=1):
            module = self._read_module(raw_module, app_id, label)
            if module.error is not None:
                broken.append(position)
                self.warnings.append(f"Module {position} of application {label!r} could not be read: {module.error}")
            modules.append(module)
        error = f"Modules that could not be read: {', '.join(map(str, broken))}" if broken else None
        version = raw.get("version")
        self.apps.append(App(app_id, label, version if isinstance(version, int) else None, tuple(modules), error))

    def _read_module(self, raw: Any, app_id: str, app_name: str) -> Module:
        if not isinstance(raw, dict) or ("error" in raw and "forms" not in raw):
            reason = _text(raw.get("error")) if isinstance(raw, dict) else "the server sent no object"
            return Module("", None, error=reason or "the server gave no reason")
        case_type = _text(raw.get("case_type")) or None
        name = _best_name(_names(raw.get("name")), fallback="")
        if case_type:
            own = {p for p in _list(raw.get("case_properties")) if isinstance(p, str) and p and "/" not in p}
            self.properties.setdefault(case_type, set()).update(own)
            self.case_type_apps.setdefault(case_type, set()).add(app_id)
        namespaces = []
        for raw_form in _list(raw.get("forms")):
            form = _read_form(raw_form, app_id, app_name, name, case_type)
            if form is None:
                self.warnings.append(
                    f"A form without xmlns in module {name!r} of application {app_name!r} was left out."
                )
                continue
            known = self.forms.get(form.xmlns)
            self.forms[form.xmlns] = _merge_forms(known, form) if known else form
            namespaces.append(form.xmlns)
        return Module(name, case_type, tuple(namespaces))


def _read_form(raw: Any, app_id: str, app_name: str, module: str, case_type: str | None) -> Form | None:
    xmlns = _text(raw.get("xmlns")) if isinstance(raw, dict) else ""
    if not xmlns:
        return None
    name = _names(raw.get("name"))
    raw_questions = [q for q in _list(raw.get("questions")) if isinstance(q, dict)]
    return Form(
        xmlns=xmlns,
        name=name,
        title=_best_name(name, fallback=xmlns.rstrip("/").rsplit("/", 1)[-1] or xmlns),
        app_id=app_id,
        app_name=app_name,
        module=module,
        case_type=case_type,
        questions=tuple(_read_questions(raw_questions)),
        questions_language=_label_language(raw_questions),
        app_ids=(app_id,),
    )


def _read_questions(raw_questions: list[dict[str, Any]]) -> Iterator[Question]:
    repeats = {_path(q.get("value")) for q in raw_questions if q.get("type") == "Repeat"}
    repeats |= {_path(q.get("repeat")) for q in raw_questions}
    repeats.discard(())
    seen: set[tuple[str, ...]] = set()
    for raw in raw_questions:
        path = _path(raw.get("value"))
        # A question at the root itself, or a second control on one node (a label beside an input), adds nothing.
        if not path or path in seen:
            continue
        seen.add(path)
        yield Question(
            path=path,
            label=_text(raw.get("label")) or path[-1],
            type=_text(raw.get("type")) or None,
            translations=_names(raw.get("translations")),
            options=tuple(_read_options(raw.get("options"))),
            repeat=max((r for r in repeats if len(r) < len(path) and path[: len(r)] == r), key=len, default=None),
            required=raw.get("required") is True,
            calculate=_text(raw.get("calculate")) or None,
            is_group=raw.get("is_group") is True or _text(raw.get("type")) in _GROUP_TYPES,
        )


def _read_options(raw_options: Any) -> Iterator[Option]:
    seen: set[str] = set()
    for raw in _list(raw_options):
        value = _text(raw.get("value")) if isinstance(raw, dict) else ""
        if value and value not in seen:
            seen.add(value)
            yield Option(value, _text(raw.get("label")) or value, _names(raw.get("translations")))


def _merge_forms(first: Form, second: Form) -> Form:
    """`first`, completed by what only `second` has."""
    questions = {question.path: question for question in first.questions}
    for question in second.questions:
        known = questions.get(question.path)
        questions[question.path] = _merge_questions(known, question) if known else question
    name = {**second.name, **first.name}
    return msgspec.structs.replace(
        first,
        name=name,
        title=first.title if first.name else _best_name(name, fallback=first.title),
        case_type=first.case_type or second.case_type,
        questions=tuple(questions.values()),
        questions_language=first.questions_language or second.questions_language,
        app_ids=tuple(sorted({*first.app_ids, *second.app_ids})),
    )


def _merge_questions(first: Question, second: Question) -> Question:
    options = {option.value: option for option in (*second.options, *first.options)}
    order = dict.fromkeys([option.value for option in (*first.options, *second.options)])
    kind = first.type or second.type
    if first.type and second.type and first.type != second.type:
        kind = _WIDER.get(frozenset({first.type, second.type}), "Text")
    if first.is_group != second.is_group:
        # In one copy the node is a group, in the other a question: keep the question, or its answer would be lost.
        kind = (second if first.is_group else first).type
    return msgspec.structs.replace(
        first,
        type=kind,
        translations={**second.translations, **first.translations},
        options=tuple(options[value] for value in order),
        repeat=first.repeat or second.repeat,
        required=first.required and second.required,
        calculate=first.calculate or second.calculate,
        is_group=first.is_group and second.is_group,
    )


def _label_language(raw_questions: list[dict[str, Any]]) -> str | None:
    """The language whose translations equal the labels most often, since the API does not name the labels' language."""
    votes: Counter[str] = Counter()
    for raw in raw_questions:
        label = _text(raw.get("label"))
        votes.update(language for language, text in _names(raw.get("translations")).items() if text == label)
    best = max(votes.values(), default=0)
    return min((language for language, count in votes.items() if count == best), default=None)


def _path(value: Any) -> tuple[str, ...]:
    """Keys within the form's JSON for an XForm reference `/root/group/question`: the JSON has no root."""
    return tuple(part for part in value.split("/") if part)[1:] if isinstance(value, str) else ()


def _best_name(names: dict[str, str], fallback: str) -> str:
    return names.get("en") or next(iter(names.values()), fallback)


def _names(value: Any) -> dict[str, str]:
    """Language to text, without empty texts; modules of old applications have a plain string."""
    if isinstance(value, str) and value.strip():
        return {"en": value.strip()}
    if not isinstance(value, dict):
        return {}
    return {str(language): text.strip() for language, text in value.items() if isinstance(text, str) and text.strip()}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
