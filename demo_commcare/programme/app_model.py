"""The specification of an application, and its object in the application resource.

Specs (`App`, `Module`, `Form`, `Question`) are plain values; `render_app` turns one into the API's object. The invented
questions are in `maternal_apps` and `nutrition_apps`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

LANGUAGES = ("en", "fr", "hi")
_TAGS = {
    "Group": "group", "FieldList": "group", "Repeat": "repeat", "Select": "select1", "MSelect": "select", "Image": "upload",
    "Trigger": "trigger", "Secret": "secret", "DataBindOnly": "hidden", "SaveToCase": "hidden",
}  # fmt: skip


def words(text: str) -> dict[str, str]:
    """Split `en|fr|hi` into a translation dict; an empty place means: not translated."""
    return {lang: part for lang, part in zip(LANGUAGES, text.split("|"), strict=False) if part}


@dataclass(frozen=True)
class Question:
    """One question: `label` is `en|fr|hi`, options are (value, `en|fr|hi`), children belong to groups and repeats."""

    name: str
    type: str
    label: str = ""
    options: tuple[tuple[str, str], ...] = ()
    children: tuple["Question", ...] = ()
    required: bool = False
    relevant: str | None = None
    constraint: str | None = None
    calculate: str | None = None


@dataclass(frozen=True)
class Form:
    key: str
    xmlns: str
    name: dict[str, str]
    questions: tuple[Question, ...]
    unique_id: str
    root: str = "data"


@dataclass(frozen=True)
class Module:
    """`error` replaces the whole module in the answer, as HQ does when an XForm cannot be parsed."""

    name: dict[str, str]
    case_type: str
    forms: tuple[Form, ...]
    unique_id: str
    error: str | None = None


@dataclass(frozen=True)
class App:
    app_id: str
    name: str
    version: int
    langs: tuple[str, ...]
    modules: tuple[Module, ...]
    case_properties: dict[str, tuple[str, ...]]
    build_id: str
    build_comment: str | None = None
    versions: tuple[Json, ...] = field(default=())


def render_app(app: App) -> Json:
    """The application object of `application/v1` (without `extras`)."""
    return {
        "id": app.app_id,
        "name": app.name,
        "version": app.version,
        "is_released": None,
        "built_on": None,
        "build_comment": app.build_comment,
        "built_from_app_id": None,
        "modules": [_render_module(app, module) for module in app.modules],
        "versions": list(app.versions),
        "resource_uri": "",
    }


def extras_of(app: App) -> Json:
    """The raw-document keys that `extras=true` merges into the object."""
    return {
        "doc_type": "Application",
        "langs": list(app.langs),
        "build_spec": {"version": "2.55.0", "build_number": None, "latest": True},
        "case_sharing": False,
        "cloudcare_enabled": True,
    }


def _render_module(app: App, module: Module) -> Json:
    if module.error is not None:
        return {"error": module.error}
    return {
        "name": dict(module.name),
        "case_type": module.case_type,
        "case_properties": ["name", *app.case_properties.get(module.case_type, ())],
        "unique_id": module.unique_id,
        "forms": [
            {
                "xmlns": form.xmlns,
                "name": dict(form.name),
                "questions": list(_render_questions(form.questions, f"/{form.root}", None, None, app.langs[0])),
                "unique_id": form.unique_id,
            }
            for form in module.forms
        ],
    }


def _render_questions(
    questions: tuple[Question, ...], path: str, group: str | None, repeat: str | None, lang: str
) -> Iterator[Json]:
    for question in questions:
        value = f"{path}/{question.name}"
        yield render_question(question, value, group, repeat, lang)
        if question.type == "SaveToCase":
            continue
        inner_repeat = value if question.type == "Repeat" else repeat
        yield from _render_questions(question.children, value, value, inner_repeat, lang)


def render_question(question: Question, value: str, group: str | None, repeat: str | None, lang: str) -> Json:
    """One entry of a form's `questions`; `value` is the XForm path such as `/data/visit/weight`."""
    labels = words(question.label)
    label = labels.get(lang) or next(iter(labels.values()), "")
    common: Json = {
        "tag": _TAGS.get(question.type, "input"),
        "value": value,
        "repeat": repeat,
        "group": group,
        "type": question.type,
        "relevant": question.relevant,
        "required": question.required,
        "constraint": question.constraint,
        "comment": None,
        "hashtagValue": "#form/" + value.split("/", 2)[2],
        "setvalue": None,
        "is_group": question.type in {"Group", "Repeat", "FieldList"},
    }
    if common["tag"] == "hidden":
        return {**common, "label": value, "calculate": question.calculate, "translations": {}}
    common |= {"label": label, "label_ref": f"{value.split('/', 2)[2]}-label", "translations": labels}
    if question.options:
        common["options"] = [_render_option(option, text, value, lang) for option, text in question.options]
    return common


def _render_option(option: str, text: str, path: str, lang: str) -> Json:
    labels = words(text)
    return {
        "label": labels.get(lang) or next(iter(labels.values()), option),
        "label_ref": f"{path.split('/', 2)[2]}-{option}-label",
        "value": option,
        "translations": labels,
    }
