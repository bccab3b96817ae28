from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from explorer.providers.commcare.structure import App, CaseType, Form, Question, Structure
from explorer.providers.commcare.structure_diff import headline, sentences, structure_diff


def form(xmlns: str, **questions: str | None) -> Form:
    nodes = tuple(Question(path=tuple(path.split("__")), label=path, type=type_) for path, type_ in questions.items())
    return Form(xmlns, {"en": xmlns}, xmlns, "app", "App", "Module", "client", nodes)


def structure(*forms: Form, case_types: dict[str, tuple[str, ...]] | None = None, version: int = 1) -> dict[str, Any]:
    types = tuple(CaseType(name, properties, ("app",)) for name, properties in (case_types or {}).items())
    return Structure(apps=(App("app", "App", version, ()),), case_types=types, forms=forms).to_dict()


def test_a_diff_names_what_changed() -> None:
    old = structure(
        form("gone"),
        form("visit", weight="Int", grp__height="Text", dropped="Text"),
        case_types={"client": ("dob", "name"), "old_type": ()},
    )
    new = structure(
        form("new"),
        form("visit", weight="Double", grp__height="Text", grp__muac=None),
        case_types={"client": ("name", "village"), "new_type": ("x",)},
        version=2,
    )
    assert structure_diff(old, new) == {
        "apps": {"changed": ["app"]},
        "case_types": {
            "added": ["new_type"],
            "removed": ["old_type"],
            "properties_added": {"client": ["village"]},
            "properties_removed": {"client": ["dob"]},
        },
        "forms": {
            "added": ["new"],
            "removed": ["gone"],
            "questions_added": {"visit": ["grp/muac"]},
            "questions_removed": {"visit": ["dropped"]},
            "questions_retyped": {"visit": [{"question": "weight", "old": "Int", "new": "Double"}]},
        },
        "names": {"app": "App", "gone": "gone", "new": "new", "visit": "visit"},
    }
    assert headline(structure_diff(old, new)) == (
        "1 case type new, 1 case type gone, 1 property new, 1 property gone, 1 form new, 1 form gone, "
        "1 question new, 1 question gone, 1 question of another type"
    )
    assert sentences(structure_diff(old, new)) == [
        "Application 'App' has another version.",
        "Case type 'new_type' is new.",
        "Case type 'old_type' is gone.",
        "Case type 'client': 1 property new (village); 1 property gone (dob).",
        "Form 'new' is new.",
        "Form 'gone' is gone.",
        "Form 'visit': 1 question new (grp/muac); 1 question gone (dropped); "
        "1 question of another type (weight from Int to Double).",
    ]
    assert (headline({}), sentences({})) == ("nothing", [])


structures = st.builds(
    lambda forms, types: structure(*(form(name, **questions) for name, questions in forms.items()), case_types=types),
    st.dictionaries(
        st.sampled_from("abc"),
        st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["Int", "Text", None]), max_size=3),
    ),
    st.dictionaries(st.sampled_from("pqr"), st.lists(st.sampled_from("uvw"), unique=True).map(tuple)),
)


@given(structures, structures)
def test_a_diff_is_empty_for_equals_and_mirrored_backwards(old: dict[str, Any], new: dict[str, Any]) -> None:
    there, back = structure_diff(old, new), structure_diff(new, old)
    assert structure_diff(old, old) == {}
    for part in ("case_types", "forms"):
        for added, removed in (
            ("added", "removed"),
            ("questions_added", "questions_removed"),
            ("properties_added", "properties_removed"),
        ):
            assert there.get(part, {}).get(added) == back.get(part, {}).get(removed)
