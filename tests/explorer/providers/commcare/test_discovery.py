"""The structure of a project space: every form, question and case type that the server describes, however odd."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.http.errors import ResponseMalformed
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.discovery import discover, structure_of
from explorer.providers.commcare.structure import Question, Structure
from explorer.registry import load_pipeline

PIPELINE = load_pipeline(Path(__file__).parents[4] / "pipelines" / "commcare_sync.yml")
SETTINGS = Settings(_env_file=None, http_max_attempts=1)


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=30) as server:
        yield server


def ask(demo: RunningServer) -> Structure:
    credential = ApiKeyCredential(demo.username, demo.api_key)
    with CommCareClient(demo.url, MATERNAL, credential, settings=SETTINGS) as client:
        return discover(client, PIPELINE)


def test_everything_the_demo_describes_is_found(demo: RunningServer) -> None:
    structure = ask(demo)
    modules = [module for app in demo.truth(MATERNAL).applications for module in app["modules"]]
    forms = [form for module in modules if "error" not in module for form in module["forms"]]
    assert {form.xmlns for form in structure.forms} == {form["xmlns"] for form in forms}
    assert {case.name for case in structure.case_types} == {m["case_type"] for m in modules if m.get("case_type")}
    by_xmlns = {form.xmlns: {q.path for q in form.questions} for form in structure.forms}
    for form in forms:
        for question in form["questions"]:
            path = tuple(question["value"].split("/")[2:])
            assert not path or path in by_xmlns[form["xmlns"]]
    assert len(structure.warnings) == sum("error" in module for module in modules) > 0
    assert Structure.from_dict(structure.to_dict()) == structure


def test_question_paths_lead_to_answers(demo: RunningServer) -> None:
    """The paths are those of the submitted forms: most questions of the most used form have an answer in some submission."""
    structure, answered = ask(demo), set()
    form = max(structure.forms, key=lambda f: len(f.questions))
    for submission in demo.truth(MATERNAL).forms:
        if submission["form"].get("@xmlns") == form.xmlns:
            answered |= {
                q.path for q in form.questions if q.repeat is None and _at(submission["form"], q.path) is not None
            }
    asked = {q.path for q in form.questions if q.repeat is None and not q.is_group}
    assert len(answered & asked) > len(asked) / 2


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def test_an_answer_of_another_shape_is_an_error(demo: RunningServer) -> None:
    for body in ("{}", "[]", '{"objects": null}'):
        demo.control.fail("application", status=200, body=body)
        with pytest.raises(ResponseMalformed) as caught:
            ask(demo)
        assert caught.value.details["resource"] == "app_structure"


def app(app_id: str, *modules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": app_id, "name": f"App {app_id}", "version": 3, "modules": list(modules), **more}


def module(
    *forms: dict[str, Any], case_type: str = "person", properties: tuple[str, ...] = ("name",)
) -> dict[str, Any]:
    return {"name": {"en": "Module"}, "case_type": case_type, "case_properties": list(properties), "forms": list(forms)}


def form(*questions: dict[str, Any], xmlns: str = "http://x/form", **names: str) -> dict[str, Any]:
    return {"xmlns": xmlns, "name": names, "questions": list(questions)}


def question(value: str, kind: str | None = "Text", **more: Any) -> dict[str, Any]:
    return {"value": value, "type": kind, "label": f"Label of {value}", "repeat": None, **more}


def questions_of(*raw: dict[str, Any]) -> dict[tuple[str, ...], Question]:
    (found,) = structure_of([app("a", module(form(*raw, en="F")))]).forms
    return {q.path: q for q in found.questions}


def test_the_root_is_left_out_whatever_its_name() -> None:
    found = questions_of(question("/name_in_english/group/q"), question("/data/case"), question("/data"))
    assert list(found) == [("group", "q"), ("case",)]


def test_the_innermost_repeat_holds_the_question() -> None:
    found = questions_of(
        question("/data/out", "Repeat", repeat="/data/out"),
        question("/data/out/in/item", "Repeat", repeat="/data/out"),
        question("/data/out/in/item/q", repeat="/data/out/in/item"),
        question("/data/out/q", repeat="/data/out"),
        question("/data/outside"),
    )
    assert {path: q.repeat for path, q in found.items()} == {
        ("out",): None,
        ("out", "in", "item"): ("out",),
        ("out", "in", "item", "q"): ("out", "in", "item"),
        ("out", "q"): ("out",),
        ("outside",): None,
    }
    assert found["out",].is_group


def test_copies_of_a_form_are_merged_whatever_the_servers_order() -> None:
    one, two = ([{"value": value, "label": value}] for value in "12")
    first = app("a", module(form(question("/data/q", "Int"), question("/data/both", "Select", options=one), en="A")))
    again = form(
        question("/other/q"), question("/other/new", "Date"), question("/data/both", "Select", options=two), fra="B"
    )
    second = app("b", module(again, properties=("age", "parent/village")))
    expected = structure_of([first, second])
    (merged,) = expected.forms
    assert (merged.title, merged.name, merged.app_ids) == ("A", {"en": "A", "fra": "B"}, ("a", "b"))
    assert {q.path: q.type for q in merged.questions} == {("q",): "Text", ("both",): "Select", ("new",): "Date"}
    assert [o.value for o in merged.questions[1].options] == ["1", "2"]
    (case_type,) = expected.case_types
    assert (case_type.properties, case_type.app_ids) == (("age", "name"), ("a", "b"))
    assert structure_of([second, first]) == expected


def test_odd_parts_become_warnings_not_failures() -> None:
    structure = structure_of([
        app("a", {"error": "XForm is broken"}, module(form(question("/data/q"), xmlns="")), module(form(hin="पंजीकरण"))),
        {"id": "b", "name": None, "version": "x", "modules": None},
        {"name": "no id"}, "not an object",
    ])  # fmt: skip
    assert len(structure.warnings) == 3
    assert sum("XForm is broken" in warning for warning in structure.warnings) == 1
    assert structure.apps[0].error is not None
    assert structure.apps[0].modules[0].error == "XForm is broken"
    assert [f.title for f in structure.forms] == ["पंजीकरण"]


def test_any_json_in_place_of_a_structure_is_survived() -> None:
    """Discovery must not stop a whole tenant: random damage to a good answer changes only what was damaged."""
    random_source = random.Random(7)
    good = app("a", module(form(question("/data/q", options=[{"value": "1"}], translations={"en": "x"}), en="F")))
    for _ in range(300):
        structure_of([_damaged(good, random_source)])


def _damaged(value: Any, source: random.Random) -> Any:
    if source.random() < 0.12:
        return source.choice([None, 3, "text", [], {}, True, [None], {"x": 1}])
    if isinstance(value, dict):
        return {key: _damaged(part, source) for key, part in value.items()}
    return [_damaged(part, source) for part in value] if isinstance(value, list) else value
