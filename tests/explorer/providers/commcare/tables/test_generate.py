"""Tables and columns of a structure: stable names, fitting parts, and text that is never run. Without a database."""

import re
from typing import Any

import msgspec
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import CaseTypeProfile, FormProfile, Profile
from explorer.tables.identifiers import RESERVED
from explorer.tables.naming import TABLE_MAX_BYTES
from explorer.tables.parts import MAX_COLUMNS
from explorer.tables.select import select_sql
from explorer.tables.sql_text import shown
from explorer.tables.value_counts import ValueCounts
from explorer.tables.values import ColumnSpec, TableSpec

VALID = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
NASTY = st.sampled_from(
    [
        "{{ env_var('PATH') }}",
        "{% do x() %}",
        "'; drop table cases; --",
        "DOB",
        "dob",
        "d-o-b",
        "d o b",
        "नाम",
        "name",
        "",
        "select",
    ]
)
TEXT = st.one_of(NASTY, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=70))
STEP = TEXT.filter(bool)
TYPES = st.sampled_from(
    [
        None,
        "Text",
        "Int",
        "Double",
        "Date",
        "DateTime",
        "Time",
        "Select",
        "MSelect",
        "Geopoint",
        "Image",
        "DataBindOnly",
        "Group",
    ]
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    options = draw(st.lists(TEXT.filter(bool), max_size=4, unique=True))
    return Question(
        tuple(draw(st.lists(STEP, min_size=1, max_size=3))),
        label=draw(TEXT),
        type=draw(TYPES),
        options=tuple(Option(value, draw(TEXT)) for value in options),
    )


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    forms = []
    for xmlns in draw(st.lists(st.sampled_from(["http://a", "http://b", "c", "{{ d }}"]), unique=True)):
        asked = draw(st.lists(questions(), max_size=6, unique_by=lambda question: question.path))
        title = draw(TEXT) or "x"
        forms.append(Form(xmlns, {}, title, "app", draw(TEXT), "m", draw(st.sampled_from([None, "dob"])), tuple(asked)))
    types = draw(st.lists(TEXT, max_size=3, unique=True))
    properties = [tuple(draw(st.lists(STEP, max_size=6, unique=True))) for _ in types]
    return Structure(
        (),
        tuple(CaseType(name, own, ("app",)) for name, own in zip(types, properties, strict=True)),
        tuple(sorted(forms, key=lambda form: form.xmlns)),
    )


def generate(structure: Structure, profile: Profile) -> list[TableSpec]:
    for form in structure.forms:
        profile.remember(form)
    return generate_tables(structure, profile, taken={"cases", "forms", "form_cases", "users"})


def names(tables: list[TableSpec]) -> dict[Any, str]:
    """Names by the thing that they name."""
    of_tables = {(table.kind, table.source, table.part): table.name for table in tables}
    of_columns = {
        (table.kind, table.source, column.path, column.label, column.description.split(" ")[0]): column.name
        for table in tables
        for column in table.columns
        if column.path
    }
    return of_tables | of_columns


@settings(deadline=None, max_examples=30)
@given(structures())
def test_every_name_is_valid_and_unique_and_texts_are_only_data(structure: Structure) -> None:
    tables = generate(structure, Profile())
    assert len({table.name for table in tables}) == len(tables)
    for table in tables:
        assert VALID.match(table.name)
        assert len(table.name) <= TABLE_MAX_BYTES
        columns = [column.name for column in table.columns]
        assert len(set(columns)) == len(columns)
        assert all(VALID.match(name) and name not in RESERVED for name in columns)
        assert _tables_read(table) == {table.rows.relation}
        for column in table.columns:
            assert column.path is None or shown(column.path[-1]) in column.description


def _tables_read(table: TableSpec) -> set[str]:
    """The tables that the one statement reads."""
    [statement] = sqlglot.parse(select_sql(table), read="postgres")
    assert isinstance(statement, sqlglot.exp.Select)
    queries = {query.alias for query in statement.find_all(sqlglot.exp.CTE)}
    return {read.name for read in statement.find_all(sqlglot.exp.Table) if read.name} - queries


@settings(deadline=None, max_examples=30)
@given(structures(), structures(), st.randoms(use_true_random=False))
def test_what_has_a_name_keeps_it_when_others_come(one: Structure, other: Structure, random: Any) -> None:
    profile = Profile()
    before = names(generate(one, profile))
    known = {form.xmlns for form in one.forms}
    forms = [*one.forms, *(form for form in other.forms if form.xmlns not in known)]
    named = {case_type.name for case_type in one.case_types}
    types = [*one.case_types, *(case_type for case_type in other.case_types if case_type.name not in named)]
    random.shuffle(types)
    # As after a restart: only stored data are known.
    profile = msgspec.json.decode(msgspec.json.encode(profile), type=Profile)
    grown = Structure((), tuple(types), tuple(sorted(forms, key=lambda form: form.xmlns)))
    grown = msgspec.structs.replace(
        grown,
        case_types=tuple(
            msgspec.structs.replace(case_type, properties=(*case_type.properties, "DOB", "dob", "d o b"))
            for case_type in grown.case_types
        ),
    )
    after = names(generate(grown, profile))
    assert {key: after.get(key) for key in before if key in after} == {
        key: name for key, name in before.items() if key in after
    }
    assert {key for key in before if len(key) == 3} <= set(after)


def test_a_newcomer_takes_no_name_from_what_had_it() -> None:
    profile = Profile()
    [table] = generate(Structure((), (CaseType("t", ("DOB",), ()),), ()), profile)
    assert {column.path: column.name for column in table.columns if column.path} == {("DOB",): "dob"}
    [table] = generate(Structure((), (CaseType("t", ("DOB", "dob"), ()),), ()), profile)
    found = {column.path: column.name for column in table.columns if column.path}
    assert found[("DOB",)] == "dob"
    assert re.fullmatch("dob_[0-9a-f]{8}", found[("dob",)])


def test_a_twin_that_goes_or_comes_renames_no_form() -> None:
    def form(xmlns: str, app: str) -> Form:
        return Form(xmlns, {}, "Visit", app, app, "m", None, ())

    profile = Profile()
    one = generate(Structure((), (), (form("a", "Mother"),)), profile)
    both = generate(Structure((), (), (form("a", "Mother"), form("b", "Child"))), profile)
    again = generate(Structure((), (), (form("b", "Child"),)), profile)
    assert [table.name for table in one] == ["form_visit"]
    assert {table.source: table.name for table in both} == {"a": "form_visit", "b": "form_child_visit"}
    assert [table.name for table in again] == ["form_child_visit"]


def _wide(count: int, kind: str = "Text") -> Structure:
    asked = tuple(Question((f"q{number}",), label=f"Question {number}", type=kind) for number in range(count))
    return Structure((), (), (Form("x", {}, "Wide", "a", "A", "m", None, asked),))


def test_a_wide_form_is_continued_and_no_question_is_lost() -> None:
    profile = Profile()
    tables = generate(_wide(1300), profile)
    assert [table.name for table in tables[:3]] == ["form_wide", "form_wide__2", "form_wide__3"]
    paths = [column.path for table in tables for column in table.columns if column.path]
    assert sorted(paths) == sorted((f"q{number}",) for number in range(1300))
    assert all((table.columns[0].name,) == table.key == ("form_id",) for table in tables)
    assert all(len(table.columns) <= MAX_COLUMNS for table in tables)
    before = {column.path: table.name for table in tables for column in table.columns if column.path}
    structure = _wide(1301)
    first, *others = structure.forms[0].questions
    grown = msgspec.structs.replace(structure.forms[0], questions=(others[-1], first, *others[:-1]))
    after = generate(Structure((), (), (grown,)), profile)
    placed = {column.path: table.name for table in after for column in table.columns if column.path}
    assert {path: placed[path] for path in before} == before


def test_narrow_columns_need_fewer_tables() -> None:
    options = (Option("yes", "Yes"), Option("no", "No"))
    asked = tuple(Question((f"q{n}",), label="?", type="Select", options=options) for n in range(700))
    tables = generate(Structure((), (), (Form("x", {}, "Wide", "a", "A", "m", None, asked),)), Profile())
    assert len(tables) == 1


def test_options_are_columns_where_they_are_few_and_questions_choose_first() -> None:
    few = tuple(Option(value, label) for value, label in (("fever", "Fever {{ x }}"), ("नहीं", "None")))
    many = tuple(Option(str(number), "x") for number in range(13))
    asked = (
        Question(("signs",), label="Signs?", type="MSelect", options=few),
        Question(("many",), label="Many?", type="MSelect", options=many),
        Question(("signs", "fever"), label="Taken", type="Text"),
    )
    [table] = generate(Structure((), (), (Form("x", {}, "F", "a", "A", "m", None, asked),)), Profile())
    columns = {column.name: column for column in table.columns if column.path}
    assert columns["signs__fever"].path == ("signs", "fever")
    options = [column for column in columns.values() if column.type == "boolean"]
    assert [column.description for column in options] == [
        "Whether Fever {{ x }} (fever) was chosen; NULL without an answer. Signs? (Question signs.)",
        "Whether None (नहीं) was chosen; NULL without an answer. Signs? (Question signs.)",
    ]
    assert re.fullmatch("signs__fever_[0-9a-f]{8}", options[0].name)
    assert options[1].name == "signs__nhiin"
    assert not [name for name in columns if name.startswith("many__")]


def test_options_that_do_not_fit_the_data_are_said_once_and_make_no_columns() -> None:
    options = (Option("1", "Female"), Option("2", "Male"))
    asked = (
        Question(("sex",), label="Sex", type="Select", options=options),
        Question(("signs",), label="Signs", type="MSelect", options=options),
    )
    structure = Structure((), (), (Form("x", {}, "F", "a", "A", "m", None, asked),))

    def of(sex: dict[str, int], signs: dict[str, int], profile: Profile) -> dict[str, ColumnSpec]:
        seen = {"sex": ValueCounts({"text": 1}, answers=sex), "signs": ValueCounts({"text": 1}, answers=signs)}
        profile.forms["x"] = FormProfile("F", seen)
        [table] = generate(structure, profile)
        return {column.name: column for column in table.columns if column.path}

    # All of a few, or most of many, are none of the options; of those only what somebody chose has a column.
    columns = of({"m": 3, "f": 2}, {"a": 30, "1": 10}, Profile())
    assert set(columns) == {"sex", "signs", "signs__1"}
    assert columns["sex"].values == {"options_unfit": 5, "of": 5, "such_as": ["m", "f"]}
    assert columns["signs"].values == {"options_unfit": 30, "of": 40, "such_as": ["a"]}
    assert [columns[name].unfit for name in ("sex", "signs")] == ["", ""]
    assert columns["sex"].description.startswith("The options of the application do not fit the data")
    # Strays stay what they are.
    profile = Profile()
    columns = of({"m": 3}, {"a": 10, "1": 10}, profile)
    assert set(columns) == {"sex", "signs", "signs__1", "signs__2"}
    assert all(columns[name].unfit and not columns[name].values for name in ("sex", "signs"))
    # What had a column keeps it.
    assert set(of({"m": 5}, {"a": 30}, profile)) == {"sex", "signs", "signs__1", "signs__2"}


def test_properties_are_told_by_questions_of_the_same_name() -> None:
    asked = (
        Question(("g", "edd"), label="Expected date?", type="Date"),
        Question(("phone",), label="Phone?", type="PhoneNumber"),
        Question(("risk",), label="Risk", type="DataBindOnly"),
        Question(("sex",), label="Sex?", type="Select", options=(Option("f", "Female"),)),
        Question(
            ("signs",), label="Signs?", type="MSelect", options=(Option("fever", "Fever"), Option("cough", "Cough"))
        ),
        Question(("drugs",), label="Drugs?", type="MSelect", options=(Option("ors", "ORS"),)),
        Question(("g", "drugs"), label="Drug?", type="Select", options=(Option("zinc", "Zinc"),)),
    )
    form = Form("x", {}, "Register", "a", "A", "m", "mother", asked)
    profile = Profile()
    numbers = ValueCounts({"integer": 30}, {"integer": 30})
    profile.case_types["mother"] = CaseTypeProfile({name: numbers for name in ("phone", "risk", "sex")})
    structure = Structure(
        (), (CaseType("mother", ("edd", "phone", "risk", "sex", "other", "signs", "drugs"), ("a",)),), (form,)
    )
    table = next(table for table in generate(structure, profile) if table.kind == "case_type")
    types = {column.name: column.type for column in table.columns if column.path}
    # Several choices in one form and one in another: the text as it came.
    assert types == {
        "edd": "date", "phone": "text", "risk": "bigint", "sex": "text", "other": "text", "signs": "text[]", "drugs": "text",
    }  # fmt: skip
    unfit = {column.name: column.unfit for column in table.columns if column.unfit}
    assert (unfit.keys(), "array" in unfit["signs"]) == ({"edd", "risk", "signs"}, True)
    sex = next(column for column in table.columns if column.name == "sex")
    assert (sex.label, sex.options) == ("Sex?", (Option("f", "Female"),))
    assert sex.description.startswith("Case property sex. Asked by the question of that name in Register: Sex? ")


def test_a_changed_type_is_a_migration_and_never_goes_back() -> None:
    def structure(kind: str) -> Structure:
        asked = (Question(("age",), label="Age", type=kind),)
        return Structure((), (), (Form("x", {}, "F", "a", "A", "m", None, asked),))

    profile = Profile()
    types = []
    for kind in ("Int", "Int", "Double", "Int", "Text", "Int"):
        [table] = generate(structure(kind), profile)
        types.append(table.columns[-2].type if table.counts_unfit_values else table.columns[-1].type)
    assert types == ["bigint", "bigint", "numeric", "numeric", "text", "text"]
    changes = [(change.table, change.column, change.before, change.after) for change in profile.type_changes]
    assert changes == [("form_f", "age", "integer", "decimal"), ("form_f", "age", "decimal", "text")]
    assert profile.type_changes[0].reason == "The application declares decimal now."


def test_questions_that_left_the_form_stay() -> None:
    asked = (
        Question(("new",), label="New", type="Text"),
        Question(("old",), label="Old?", type="Date", translations={"hi": "पुराना"}),
        Question(("never",), label="Never answered", type="Text"),
    )
    form = Form("x", {}, "F", "a", "A", "m", None, asked)
    profile = Profile()
    generate(Structure((), (), (form,)), profile)
    profile.forms["x"] = FormProfile(
        "F", {"old": ValueCounts({"date": 1}), "rows/in/data": ValueCounts({"text": 1})}, {"rows"}
    )
    later = Structure((), (), (msgspec.structs.replace(form, questions=asked[:1]),))
    tables = {table.name: table for table in generate(later, profile)}
    columns = {column.name: column for column in tables["form_f"].columns if column.path}
    assert set(columns) == {"new", "old", "never"}
    assert columns["old"].description.startswith(
        "Old? (Question of type Date old.) No longer asked since application A (seen on "
    )
    assert (columns["old"].type, columns["old"].label, columns["old"].translations) == ("date", "Old?", {"hi": "पुराना"})
    assert [column.name for column in tables["form_f__rows"].columns if column.path] == ["in__data"]
    gone = {table.name: table for table in generate(Structure((), (), ()), profile)}
    assert "in no application" not in gone["form_f"].description
    assert gone["form_f"].origin["apps"] == ()
    assert {column.name for column in gone["form_f"].columns if column.path} == {"new", "old", "never"}


def test_what_is_spelt_like_its_table_or_column_has_the_plain_name() -> None:
    types = tuple(CaseType(name, (), ("a",)) for name in ("Child", "child"))
    asked = tuple(Question(("g", name), name, "Text") for name in ("visit-date", "visit_date"))
    structure = Structure((), types, (Form("x", {}, "X", "a", "A", "M", None, asked, app_ids=("a",)),))
    tables = {table.source: table for table in generate_tables(structure, Profile(), taken=())}
    assert tables["child"].name == "case_child"
    assert re.fullmatch(r"case_child_[0-9a-f]{8}", tables["Child"].name)
    names = {column.path[-1]: column.name for column in tables["x"].columns if column.path}
    assert names["visit_date"] == "g__visit_date"
    assert re.fullmatch(r"g__visit_date_[0-9a-f]{8}", names["visit-date"])


def test_a_property_keeps_its_name_though_every_table_has_such_a_column_now() -> None:
    profile, structure = Profile(), Structure((), (CaseType("shop", ("owner_name", "size"), ("a",)),), ())
    profile.memory("case_type", "shop").names["owner_name"] = ("owner_name", "owner_name")
    for taken in (profile, Profile()):
        [table] = generate_tables(structure, taken, taken=())
        names = {column.path: column.name for column in table.columns if column.path}
        of_owner = [column.name for column in table.columns if column.origins]
        if taken is profile:
            assert names["owner_name",] == "owner_name"
            assert of_owner == ["owner_kind", "case_owner_name", "owner_location_path"]
        else:
            assert re.fullmatch(r"owner_name_[0-9a-f]{8}", names["owner_name",])
            assert of_owner == ["owner_kind", "owner_name", "owner_location_path"]


def _titled(**titles: str) -> Structure:
    forms = tuple(Form(xmlns, {}, title, "a", "App", "m", None, ()) for xmlns, title in sorted(titles.items()))
    return Structure((), (), forms)


def _named(profile: Profile, structure: Structure) -> dict[str, str]:
    return {table.source: table.name for table in generate(structure, profile)}


def test_tables_keep_their_names_whatever_their_forms_are_called() -> None:
    profile = Profile()
    given = _named(profile, _titled(a="Visit", b="Survey"))
    assert given == {"a": "form_visit", "b": "form_survey"}
    assert _named(profile, _titled(a="Survey", b="Visit")) == given
    # A form that is gone at present, with all it had, keeps its name for when it comes back.
    assert _named(profile, _titled(b="Visit", c="Visit")) == {"b": "form_survey", "c": "form_app_visit"}
    assert _named(profile, _titled(a="Other", b="Other", c="Other")) == {**given, "c": "form_app_visit"}
    # Only a table that every tenant has takes it.
    profile = Profile()
    generate(_titled(a="Visit"), profile)
    [table] = generate_tables(_titled(a="Visit"), profile, taken={"form_visit"})
    assert table.name != "form_visit"
    assert table.description.endswith(" It was called form_visit before.")


def test_a_profile_of_an_older_version_is_read_and_knows_what_it_knew() -> None:
    old = {
        "cases_until": "2024-01-01", "forms_until": "2024-01-01",
        "forms": {"x": {"name": "F", "answers": {"drinks": {"all": {"text": 3}, "latest": {}}}, "repeats": ["r"]}},
        "forms_known": {"x": msgspec.to_builtins(_drinks("a", "b"))},
        "tables": {
            "form x": {
                "wish": "form_f", "name": "form_old_name",
                "columns": {"drinks": {"kind": "choices", "part": 1}, "gps": {"kind": "geopoint", "part": 1}},
                "names": {"drinks": ["drinks", "drinks"], "drinks\0=b": ["drinks__b", "b_of_drinks"],
                          "gps/latitude": ["gps_latitude", "gps_latitude_1"]},
            },
            "repeat x r": {"wish": "form_f__r", "name": "form_f__r", "columns": {"r/case_id": {"kind": "text", "part": 1}},
                           "names": {"r/case_id": ["case_id", "case_id"]}},
        },
    }  # fmt: skip
    profile = Profile.from_json(msgspec.json.encode(old))
    assert (profile.cases_until, profile.forms_until) == ("-infinity", "-infinity")
    profile.forms["x"].blocks.add("r/case")
    tables = {table.source: table for table in generate(Structure((), (), (_drinks("a"),)), profile)}
    assert tables["x"].name == "form_old_name"
    columns = {column.name: column for column in tables["x"].columns}
    assert {"drinks", "b_of_drinks", "drinks__a", "gps_latitude_1"} <= columns.keys()
    assert "Removed from the application since" in columns["b_of_drinks"].description
    # The question keeps the name that the case of the block has elsewhere.
    [question] = [column for column in tables["x r"].columns if column.path]
    [block] = [column for column in tables["x r"].columns if column.reads]
    assert question.name == "case_id"
    assert re.fullmatch("case_id_[0-9a-f]{8}", block.name)


def _drinks(*values: str) -> Form:
    asked = (Question(("drinks",), "Drinks?", "MSelect", options=tuple(Option(value, value) for value in values)),)
    return Form("x", {}, "F", "a", "A", "m", None, asked, app_ids=("a",))


def test_what_finds_no_room_beside_its_question_is_left_out_and_nothing_moves() -> None:
    profile, wide = Profile(), _wide(1300)
    before = {column.path: table.name for table in generate(wide, profile) for column in table.columns if column.path}
    options = tuple(Option(f"o{number}", "x") for number in range(12))
    asked = [msgspec.structs.replace(question, type="MSelect", options=options) for question in wide.forms[0].questions]
    grown = Structure((), (), (msgspec.structs.replace(wide.forms[0], questions=tuple(asked)),))
    tables = generate(grown, profile)
    own = {
        column.path: table.name for table in tables for column in table.columns if column.path and column.type == "text"
    }
    assert own == before
    assert 0 < sum(column.type == "boolean" for table in tables for column in table.columns) < 12 * 1300
