"""Over any sequence of an application's versions no column disappears and no name changes."""

from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import CaseTypeProfile, FormProfile, Profile
from explorer.tables.value_counts import ValueCounts
from explorer.tables.values import ColumnSpec, TableSpec

XMLNS = ("http://a", "http://b")
# Few, so that versions change the same ones: in groups, in repeats, below what is a question elsewhere.
PATHS = (
    ("q",),
    ("q", "x"),
    ("g", "q"),
    ("g", "latitude"),
    ("r", "q"),
    ("r", "case_id"),
    ("r", "s", "q"),
    ("x_case_id",),
)
TYPES = (None, "Text", "Int", "Date", "Select", "MSelect", "Geopoint", "Image", "DataBindOnly", "Group", "SaveToCase")


@st.composite
def forms(draw: st.DrawFn, xmlns: str) -> Form:
    repeats = [path for path in (("r",), ("r", "s"), ("g",)) if draw(st.booleans())]
    asked = [Question(path, path[-1], "Repeat", repeat=_around(path, repeats), is_group=True) for path in repeats]
    for path in draw(st.lists(st.sampled_from(PATHS), unique=True)):
        kind = draw(st.sampled_from(TYPES))
        options = (
            draw(st.lists(st.sampled_from("abcdefghijklmnopq"), max_size=15, unique=True))
            if kind in ("Select", "MSelect")
            else []
        )
        asked.append(
            Question(
                path,
                draw(st.sampled_from(["One label", "Another label"])),
                kind,
                options=tuple(Option(value, value.upper()) for value in options),
                repeat=_around(path, repeats),
                is_group=kind == "Group",
            )
        )
    title = draw(st.sampled_from(["Visit", "Survey", "Visit 2"]))
    return Form(
        xmlns, {}, title, "app", draw(st.sampled_from(["App", "Other"])), "m", "t", tuple(asked), app_ids=("app",)
    )


def _around(path: tuple[str, ...], repeats: list[tuple[str, ...]]) -> tuple[str, ...] | None:
    inside = [repeat for repeat in repeats if path[: len(repeat)] == repeat != path]
    return max(inside, key=len, default=None)


@st.composite
def versions(draw: st.DrawFn) -> Structure:
    there = draw(st.lists(st.sampled_from(XMLNS), unique=True))
    properties = tuple(sorted(draw(st.sets(st.sampled_from(["q", "name", "@parent/case_id", "p"])))))
    case_types = (CaseType("t", properties, ("app",)),) if draw(st.booleans()) else ()
    return Structure((), case_types, tuple(draw(forms(xmlns)) for xmlns in sorted(there)))


def see(profile: Profile, draw: Any) -> None:
    """Submissions bring what no application describes."""
    for xmlns in XMLNS:
        seen = profile.forms.setdefault(xmlns, FormProfile("Seen"))
        for key in draw(st.lists(st.sampled_from(["q", "q/x", "r/q", "r/s/q", "new", "r/#text"]), unique=True)):
            seen.answers.setdefault(key, ValueCounts()).add("text")
        seen.repeats |= set(draw(st.lists(st.sampled_from(["r", "r/s", "q"]), unique=True)))
        seen.blocks |= set(
            draw(st.lists(st.sampled_from(["case", "x/case", "r/case", "r/s/case", "r/x/case"]), unique=True))
        )
    cases = profile.case_types.setdefault("t", CaseTypeProfile())
    cases.indices |= set(draw(st.lists(st.sampled_from(["parent", "host"]), unique=True)))
    cases.differing |= set(draw(st.lists(st.sampled_from(["name", "owner_id"]), unique=True)))


def names(tables: list[TableSpec]) -> dict[Any, str]:
    """Names by the thing that they name: tables by their source, columns by their value."""
    found: dict[Any, str] = {(table.kind, table.source, table.part): table.name for table in tables}
    for table in tables:
        for column in table.columns:
            key = (table.kind, table.source, column.path or column.reads or column.name, _what(column))
            assert key not in found, key
            found[key] = column.name
    return found


def _what(column: ColumnSpec) -> str:
    """What of a question it is: the answer, a choice, the file's address, a part of the place."""
    if column.type == "boolean" and column.path:
        return f"option {column.label}"
    if column.reads_attachments:
        return "url"
    if column.question_type == "Geopoint" and column.cast:
        return column.description.split(" in ")[0]
    return "case" if column.reads and " is about, " in column.description else ""


# Without making a failure smaller, which would take minutes.
@settings(deadline=None, max_examples=40, phases=(Phase.explicit, Phase.generate))
@given(st.data())
def test_no_column_goes_and_no_name_changes(data: st.DataObject) -> None:
    profile, before = Profile(), {}
    for structure in data.draw(st.lists(versions(), min_size=2, max_size=5)):
        see(profile, data.draw)
        for form in structure.forms:
            profile.remember(form)
        tables = generate_tables(structure, profile, taken={"cases", "forms", "form_cases"})
        for table in tables:
            assert len({column.name for column in table.columns}) == len(table.columns)
        after = names(tables)
        gone = {key: name for key, name in before.items() if key not in after and not _of_root(key, name, after)}
        assert gone == {}
        assert {key: after[key] for key in before if key in after} == {k: n for k, n in before.items() if k in after}
        before = after
        # As it is after a restart.
        profile = msgspec.json.decode(msgspec.json.encode(profile), type=Profile)


def _of_root(key: Any, name: str, after: dict[Any, str]) -> bool:
    """`case_id` is also of the block at the root, when one came to stand there: the same column."""
    return (
        len(key) == 4
        and key[3] == "case"
        and any((*k[:2], k[-1], n) == (*key[:2], "case", name) for k, n in after.items())
    )
