"""Every value of the source is in its column: hostile, non-Latin and drifting structures, built and compared."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from explorer.contract.schemas import TenantSchemas
from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.column_types import FITS, Kind, classify
from explorer.tables.engine import Updated
from explorer.tables.values import ColumnSpec, TableSpec
from tests.explorer.workshop import RAW_TABLES, Workshop

EVIL = ["{{ env_var('PATH') }}", "{% do x() %}", "'; drop table cases; --", '"$lock$"', "{# c #}", "a\\'b", "%s %(a)s"]
WIDE, HINDI, DRIFT = (f"http://openrosa.org/formdesigner/{name}" for name in ("wide", "{{hindi}}'", "drift"))
QUESTIONS = 900

Value = str | dict[str, Any] | list[Any] | None


def asked(path: str, kind: str | None, repeat: str | None = None, **more: Any) -> Question:
    steps = tuple(path.split("/"))
    around = tuple(repeat.split("/")) if repeat else None
    is_group = kind in ("Group", "Repeat")
    return Question(steps, more.pop("label", f"{EVIL[0]} {path}"), kind, repeat=around, is_group=is_group, **more)


def form(xmlns: str, title: str, *questions: Question) -> Form:
    return Form(xmlns, {"en": title}, title, "a", "{{ App }}", "M", "गर्भवती", questions, app_ids=("a",))


HINDI_FORM = form(
    HINDI,
    "गृह भेंट {{ x }}",
    asked("जानकारी/उम्र", "Int"),
    asked("जानकारी/तारीख", "Date"),
    asked(
        "लक्षण",
        "MSelect",
        options=(Option("बुखार", "बुखार है"), Option(EVIL[2].split()[0], EVIL[0]), Option("c", "{% c %}")),
    ),
    asked("sex", "Select", options=(Option("f", EVIL[3]), Option("m", "M"))),
    asked("स्थान", "Geopoint"),
    asked("photo", "Image"),
    asked("hidden", "DataBindOnly", calculate="1 + 1"),
    asked("ever", "Date"),
    asked("बच्चे", "Repeat"),
    asked("बच्चे/नाम", "Text", "बच्चे"),
    asked("बच्चे/photo", "Signature", "बच्चे"),
    asked("बच्चे/टीके", "Repeat", "बच्चे"),
    asked("बच्चे/टीके/dose", "Int", "बच्चे/टीके"),
)
WIDE_FORM = form(WIDE, "Wide", *(asked(f"q{n}", ("Text", "Int", None)[n % 3]) for n in range(QUESTIONS)))
DRIFT_FORM = form(DRIFT, "Drift", asked("age", "Int"), asked("g", "Group"), asked("g/x", "Text"), asked("gone", "Date"))
STRUCTURE = Structure(
    (),
    (CaseType("गर्भवती", ("उम्र", "तारीख", *EVIL), ("a",)),),
    tuple(sorted((HINDI_FORM, WIDE_FORM, DRIFT_FORM), key=lambda one: one.xmlns)),
)


@dataclass(frozen=True)
class Built:
    workshop: Workshop
    updated: Updated
    submissions: dict[str, dict[str, Any]]
    cases: dict[str, dict[str, str]]

    @property
    def tables(self) -> list[TableSpec]:
        """Those of this tenant's own forms and case types."""
        return [table for table in self.updated.tables.values() if table.kind != "mart"]


@pytest.fixture(scope="module")
def built(make_workshop: Callable[[], Workshop]) -> Built:
    workshop = make_workshop()
    workshop.make_raw(*RAW_TABLES)
    random = Random(7)
    submissions: dict[str, dict[str, Any]] = {}
    for number in range(3):
        # Texts that do not compress: the row is as wide as it can get.
        long = {f"q{n}": "".join(random.choices("abcdefghij0123456789", k=120)) for n in range(0, QUESTIONS, 3)}
        whole = {f"q{n}": str(random.randrange(10**15)) for n in range(1, QUESTIONS, 3)}
        hidden = {f"q{n}": f"{random.random():.12f}" for n in range(2, QUESTIONS, 3)}
        submissions[f"w{number}"] = {"@xmlns": WIDE, **long, **whole, **hidden}
    for number in range(25):
        submissions[f"h{number}"] = {
            "@xmlns": HINDI,
            "जानकारी": {
                "उम्र": str(number) if number else "34.5",
                "तारीख": f"2024-01-{number + 1:02d}T00:00:00.000000Z",
            },
            "लक्षण": ["बुखार c", "'; ", "c unknown", ""][number % 4],
            "sex": ["f", "m", "other", "", " f"][number % 5],
            "स्थान": ["28.6 77.2 200 5", "28.6", "", "north 77.2 0 0"][number % 4],
            "photo": {"#text": f"{number}.jpg", "@size": "1"},
            "hidden": str(number * 1.5),
            "ever": "never",
            "asked_in_an_older_version": {"deep": f"{EVIL[number % len(EVIL)]} {number}"},
            "बच्चे": [
                {"नाम": "आशा", "photo": "sign.png", "टीके": [{"dose": "1"}, {"dose": "x"}]},
                {"नाम": EVIL[number % len(EVIL)], "टीके": {"dose": "3"}},
            ][: number % 3],
        }
    for number in range(3):
        group: Value = {"x": "one"} if number else [{"x": "list", "old": "1"}, {"x": "", "old": "2"}]
        submissions[f"d{number}"] = {"@xmlns": DRIFT, "age": "5", "g": group, "gone": "2024-02-29"}
    for form_id, answers in submissions.items():
        files = {f"{form_id[1:]}.jpg": {"url": f"https://x/{form_id}", "content_type": "image/jpeg"}}
        record = {"form": answers, "metadata": {"timeStart": "2024-01-01T08:00:00Z", "timeEnd": "2024-01-01T08:01:30Z"}}
        workshop.add("raw_forms", {**record, "attachments": files}, form_id=form_id, received_on="2024-01-01T08:30:00Z")
    cases = {}
    for number in range(25):
        cases[f"c{number}"] = {
            "उम्र": str(number),
            "तारीख": f"2024-03-{number + 1:02d}",
            **{name: f"{name} {number}" for name in EVIL},
            "code": f"{number:03d}",
            "measure": f"{number}.25",
            "when": f"2024-01-01T0{number % 10}:00:00.000000Z",
            "mixed_when": f"2024-01-01T0{number % 10}:00:00.000000Z" if number else "2024-01-01",
            "mixed": "2024-01-01" if number else "soon",
        }
        parent = {"parent": {"case_id": "c0" if number % 5 else "of another tenant", "case_type": "t"}}
        workshop.add_case(f"c{number}", "गर्भवती", indices=parent, **cases[f"c{number}"])
    return Built(workshop, workshop.build(STRUCTURE), submissions, cases)


def _at(node: Value, path: tuple[str, ...]) -> Iterator[str]:
    """Texts at a path, through lists too; blank ones left out."""
    if isinstance(node, list):
        for item in node:
            yield from _at(item, path)
    elif isinstance(node, dict):
        yield from _at(node.get(path[0] if path else "#text"), path[1:])
    elif node and not path:
        yield node


def test_every_value_is_in_its_column_or_counted(built: Built) -> None:
    """No column is NULL everywhere while the source has values, and each value is there or named as unfit."""
    compared = 0
    for table in built.tables:
        columns = [
            column for column in table.columns if column.path and column.text and column.path[1:2] != ("case_id",)
        ]
        rows = built.workshop.read(
            f"select {', '.join([*(c.name for c in columns), 'unfit_columns' if table.counts_unfit_values else 'null'])} "
            f"from {table.name}"
        )
        for position, column in enumerate(columns):
            source = list(_source(built, table, column))
            kept = [row[position] for row in rows if row[position] is not None]
            lost = [row for row in rows if row[position] is None and column.name in (row[-1] or ())]
            assert kept or not source, (table.name, column.name)
            if column.question_type == "Geopoint":
                continue
            assert len(kept) + len(lost) == len(source), (table.name, column.name)
            if column.type == "text":
                assert Counter(kept) == Counter(source), (table.name, column.name)
            if column.type in ("bigint", "numeric"):
                kind: Kind = "integer" if column.type == "bigint" else "decimal"
                fitting = [Decimal(value) for value in source if classify(value) in FITS[kind]]
                assert sorted(map(Decimal, kept)) == sorted(fitting), (table.name, column.name)
            compared += 1
    assert compared > QUESTIONS + 20


def _source(built: Built, table: TableSpec, column: ColumnSpec) -> Iterator[str]:
    assert column.path is not None
    if table.kind == "case_type" and column.path[1:] == ("case_type",):
        yield from ("t" for _ in built.cases)
    elif table.kind == "case_type":
        yield from (record[column.path[0]] for record in built.cases.values() if column.path[0] in record)
    else:
        xmlns = table.source.split(" ")[0]
        found = [answers for answers in built.submissions.values() if answers["@xmlns"] == xmlns]
        if table.source == DRIFT and column.path[0] == "g":
            # What came as a list belongs to the table of the repeat.
            found = [answers for answers in found if isinstance(answers["g"], dict)]
        yield from (value for answers in found for value in _at(answers, column.path))


def _columns(built: Built, name: str) -> dict[tuple[str, ...], Any]:
    table = next(table for table in built.tables if table.name == name)
    return {column.path: column for column in reversed(table.columns) if column.path}


def test_types_are_those_of_questions_and_values(built: Built) -> None:
    visit = next(table.name for table in built.tables if table.source == HINDI)
    types = {"/".join(path): column.type for path, column in _columns(built, visit).items()}
    # No value fits a date here: the column is wider from the start.
    assert types["ever"] == "text"
    assert types["hidden"] == "numeric"
    assert types["जानकारी/तारीख"] == "date"
    case = next(table.name for table in built.tables if table.kind == "case_type")
    types = {path[0]: column.type for path, column in _columns(built, case).items()}
    expected = {"उम्र": "bigint", "तारीख": "date", "code": "text", "measure": "numeric", "when": "timestamptz"}
    assert expected.items() <= types.items()
    assert (types["mixed"], types["mixed_when"]) == ("text", "text")
    row = built.workshop.read(f"select {_columns(built, case)[('तारीख',)].name} from {case} where case_id = 'c0'")
    assert row == [(date(2024, 3, 1),)]


def test_choices_files_places_and_durations(built: Built) -> None:
    visit = next(table.name for table in built.tables if table.source == HINDI)
    table = next(table for table in built.tables if table.name == visit)
    signs = _columns(built, visit)[("लक्षण",)].name
    options = [column for column in table.columns if column.type == "boolean" and column.path]
    names = ", ".join(column.name for column in options)
    rows = built.workshop.read(
        f"select {signs}, {names} from {visit} where form_id in ('h0', 'h1', 'h3') order by form_id"
    )
    assert rows == [
        (["बुखार", "c"], True, False, True),
        (["';"], False, True, False),
        (None, None, None, None),
    ]
    query = f"select photo, photo_url, duration_s from {visit} where form_id = 'h4'"
    assert built.workshop.read(query) == [("4.jpg", "https://x/h4", 90.0)]
    place = _columns(built, visit)[("स्थान",)].name.removesuffix("_latitude")
    columns = f"form_id, {place}_latitude, {place}_accuracy, unfit_columns"
    query = f"select {columns} from {visit} where form_id in ('h0', 'h4', 'h7') order by 1"
    age = _columns(built, visit)[("जानकारी", "उम्र")].name
    assert built.workshop.read(query) == [
        ("h0", Decimal("28.6"), Decimal(5), [age]),
        ("h4", Decimal("28.6"), Decimal(5), ["sex"]),
        # A part that is no number: no part is taken, and the place is named once.
        ("h7", None, None, ["sex", f"{place}_latitude"]),
    ]


def test_unfit_values_are_counted_per_column_and_warned_of_per_table(built: Built) -> None:
    tables = {table.source: table.name for table in built.tables}
    visit, vaccines = tables[HINDI], tables[f"{HINDI} बच्चे/टीके"]
    counts = {name: built.updated.unfit_values(name) for name in tables.values()}
    names = _columns(built, visit)
    assert counts[visit] == {
        "sex": 10,
        names[("जानकारी", "उम्र")].name: 1,
        names[("लक्षण",)].name: 6,
        names[("स्थान",)].name: 12,
    }
    rows = dict(built.workshop.read(f"select dose, count(*) from {vaccines} group by 1"))
    assert counts[vaccines] == {"dose": rows[None]}
    found = {
        name: {finding.check: (finding.status, finding.rows) for finding in built.updated.findings(name)}
        for name in tables.values()
    }
    assert found[visit] == {"accepted_values": ("warn", 16), "values_fit": ("warn", 13)}
    case = next(table.name for table in built.tables if table.kind == "case_type")
    assert found[case] == {"relationships": ("warn", 5)}
    # The repeats of this form all have their form, and no number did not fit.
    assert found[tables[f"{HINDI} बच्चे"]] == {}


def test_wide_rows_fit_their_parts(built: Built) -> None:
    parts = [table for table in built.tables if table.source == WIDE]
    assert len(parts) > 2
    joined = " ".join(f"join {table.name} using (form_id)" for table in parts[1:])
    assert built.workshop.read(f"select count(*) from {parts[0].name} {joined}") == [(3,)]


def test_what_was_a_repeat_once_has_a_table(built: Built) -> None:
    [repeat] = [table for table in built.tables if table.source == f"{DRIFT} g"]
    assert built.workshop.read(f"select form_id, repeat_index, x, old from {repeat.name} order by 1, 2") == [
        ("d0", 1, "list", "1"),
        ("d0", 2, None, "2"),
        ("d1", 1, "one", None),
        ("d2", 1, "one", None),
    ]


def test_tables_name_the_applications_that_describe_them(built: Built) -> None:
    apps = {table.source: [app.id for app in table.origin["apps"]] for table in built.tables}
    assert apps[HINDI] == ["a"]
    assert apps[f"{DRIFT} g"] == ["a"]


def test_drift_is_a_migration_and_what_is_gone_is_retired(built: Built) -> None:
    workshop = built.workshop
    for number in range(30):
        workshop.add_case(f"n{number}", "गर्भवती", **{"उम्र": "old", "measure": "7", "तारीख": ""})
    workshop.add_form("d9", DRIFT, {"age": "6", "gone": "2024-03-01"})
    smaller = msgspec.structs.replace(DRIFT_FORM, questions=DRIFT_FORM.questions[1:3])
    forms = tuple(sorted((HINDI_FORM, smaller), key=lambda one: one.xmlns))
    with workshop.tenant.rw.connect() as connection:
        connection.execute(f"delete from {workshop.tenant.names.schema('raw')}.raw_forms where form_id like 'w%'")
        profile = Profile.read(connection, TenantSchemas(workshop.tenant.prefix))
        del profile.forms[WIDE]
        profile.write(connection, TenantSchemas(workshop.tenant.prefix))
    updated = workshop.build(Structure((), STRUCTURE.case_types, forms))
    case = next(table.name for table in updated.tables.values() if table.kind == "case_type")
    age = _columns(built, case)[("उम्र",)].name
    assert [(change.table, change.column, change.before, change.after) for change in updated.type_changes] == [
        (case, "उम्र", "integer", "text")
    ]
    assert "30 text" in str(updated.type_changes[0].reason)
    drift = next(table.name for table in updated.tables.values() if table.source == DRIFT)
    assert Counter(workshop.read(f"select {age} from {case}"))[("old",)] == 30
    assert workshop.read(f"select age, gone from {drift} where form_id = 'd9'") == [(6, date(2024, 3, 1))]
    assert {table.name for table in updated.retired} == {table.name for table in built.tables if table.source == WIDE}


def test_what_is_remembered_is_read_again(built: Built) -> None:
    with built.workshop.tenant.rw.connect() as connection:
        schemas = TenantSchemas(built.workshop.tenant.prefix)
        profile = Profile.read(connection, schemas)
        assert profile.case_types["गर्भवती"].properties["code"].all == {"whole": 25}
        connection.execute(f"update {schemas.staging}.explorer_profile set profile = 'no JSON'")
        assert Profile.read(connection, schemas) == Profile()
        connection.rollback()
