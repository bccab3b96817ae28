"""Semantics: the shipped file is valid, faults are reported, overlays win, personal data are found by name and by label."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.words import fold, words
from explorer.registry import (
    PipelineInvalid,
    Semantics,
    SemanticsInvalid,
    load_pipelines,
    load_semantics,
    parse_semantics,
)

ROOT = Path(__file__).resolve().parents[3]
PIPELINES = ROOT / "pipelines"
PIPELINE = load_pipelines(PIPELINES)["commcare_sync"]
SHIPPED = load_semantics(PIPELINES, PIPELINE)


def marts() -> dict[str, set[str]]:
    models = ROOT / "dbt_project" / "models" / "commcare"
    tables = yaml.safe_load((models / "_sources.yml").read_text())["sources"][0]["tables"]
    for path in (models / "marts").glob("*.yml"):
        tables += yaml.safe_load(path.read_text())["models"]
    return {table["name"]: {column["name"] for column in table["columns"]} for table in tables}


def test_the_shipped_words_speak_of_tables_and_columns_that_exist() -> None:
    known = marts()
    for entity in SHIPPED.entities:
        assert entity.key in known[entity.table]
    assert {measure.table for measure in SHIPPED.measures} <= known.keys()
    for synonym in SHIPPED.synonyms:
        assert synonym.column is None or synonym.column in known[synonym.table]
    assert SHIPPED.examples


def test_the_shipped_file_is_no_pipeline() -> None:
    assert list(load_pipelines(PIPELINES)) == ["commcare_sync"]


@pytest.mark.parametrize(
    ("table", "column", "type_", "labels"),
    [
        ("cases", "case_name", "text", []),
        ("users", "username", "text", []),
        ("users", "phone_numbers", "text[]", []),
        ("web_users", "email", "text", []),
        ("case_mother", "husband_name", "text", []),
        ("case_mother", "dob", "date", []),
        ("form_visit", "home_gps_latitude", "double precision", []),
        ("form_visit", "q12", "text", ["q12", "Téléphone de la mère"]),
        ("form_visit", "q13", "text", ["फोन नंबर"]),
        ("form_visit", "q14", "date", ["Date of birth"]),
        ("cases", "properties", "jsonb", []),
        ("raw_cases", "record", "json", []),
    ],
)
def test_personal_data_are_known(table: str, column: str, type_: str, labels: list[str]) -> None:
    assert SHIPPED.personal(table, column, type_, labels)


@pytest.mark.parametrize(
    ("table", "column", "type_"),
    [
        ("cases", "case_type", "text"),
        ("cases", "closed", "boolean"),
        ("forms", "form_name", "text"),
        ("forms", "received_on", "timestamptz"),
        ("groups", "name", "text"),
        ("locations", "latitude", "double precision"),
        ("case_mother", "village_name", "text"),
        ("case_mother", "edd", "date"),
        ("case_mother", "business_size", "text"),
        ("lookup_table_items", "fields", "jsonb"),
    ],
)
def test_what_is_not_personal_is_not_masked(table: str, column: str, type_: str) -> None:
    assert SHIPPED.personal(table, column, type_) is None


CORPUS = [
    line.split("\t")
    for line in (Path(__file__).parent / "personal_data.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("part", "least"), [("tune", 0.97), ("held", 0.97), ("blind", 0.95)])
def test_precision_and_recall_on_columns_as_projects_have_them(part: str, least: float) -> None:
    """The figures stand in docs/semantics.md."""
    rows = [row for row in CORPUS if row[0] == part]
    found, wrong = [], []
    for _, personal, table, column, type_, question_type, labels in rows:
        said = SHIPPED.personal(table, column, type_, [label for label in labels.split("|") if label], question_type)
        (found if (said is not None) == (personal == "1") else wrong).append((column, labels, said))
    hits = sum(said is not None for _, _, said in found)
    missed = [place for place in wrong if place[2] is None]
    assert len(rows) >= 130
    assert hits / (hits + len(wrong) - len(missed)) >= least, wrong
    assert hits / (hits + len(missed)) >= least, wrong


def test_the_corpus_is_balanced_and_says_nothing_twice() -> None:
    assert len({tuple(row[2:]) for row in CORPUS}) == len(CORPUS) >= 300
    assert 0.4 < sum(row[1] == "1" for row in CORPUS) / len(CORPUS) < 0.6
    assert all(len(row) == 7 for row in CORPUS)


@pytest.mark.parametrize(
    "wrapped",
    ["**{}**", "_{}_", "<b>{}</b>", "## {}:", "1. {} *", "<p style='x'>{}&nbsp;</p>", "[{}](http://x)", "~~x~~ {}"],
)
@pytest.mark.parametrize("label", ["Last name", "Prénom", "जन्म तिथि", "Namba ya simu", "address of this partner"])
def test_formatting_hides_no_label(wrapped: str, label: str) -> None:
    assert SHIPPED.personal("form_x", "q1", "text", [wrapped.format(label)], "Text")
    assert SHIPPED.personal("form_x", "q1", "text", [wrapped.format("Anything else")], "Text") is None


def test_a_rule_by_words_knows_phrases_beginnings_and_what_speaks_against_it() -> None:
    rules = parse_semantics(
        {"personal_data": [{"words": ["tax code", "salar*"], "unless": ["company"], "why": "Money."}]}
    )
    for column, labels in (
        ("tax__code", []),
        ("q1", ["His <i>tax code</i>"]),
        ("salaries_2026", []),
        ("q2", ["Salario?"]),
    ):
        assert rules.personal("t", column, "text", labels) == "Money."
    for column, labels in (
        ("taxcode", []),
        ("code_tax", []),
        ("q1", ["tax code of the company"]),
        ("q1", ["unsalaried"]),
    ):
        assert rules.personal("t", column, "text", labels) is None
    assert rules.personal("t", "tax_code", "boolean") is None
    assert rules.personal("t", "tax_code", "text", (), "Select") is None


def test_the_type_of_the_question_tells_too() -> None:
    assert SHIPPED.personal("form_visit", "q1", "text", (), "PhoneNumber") == "Telephone number."
    assert SHIPPED.personal("form_visit", "q1", "text", (), "Text") is None


def test_a_fault_is_named_with_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "commcare_sync.semantics.yml"
    path.write_text("entities: []\nmeasurs: []\n")
    with pytest.raises(PipelineInvalid, match=r"semantics\.yml:2: measurs"):
        load_semantics(tmp_path, PIPELINE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"pii": []}, "pii"),
        ({"personal_data": [{"table": "cases"}]}, "one of column, label, type, question_type and words"),
        ({"personal_data": [{"column": "x", "mask": True}]}, "personal_data.0.mask"),
        ({"entities": [{"name": "a", "table": "t", "key": "k", "description": "d"}] * 2}, "entity given twice: a"),
        ({"examples": [{"question": "q", "sql": ""}]}, "examples.0.sql"),
        ({"synonyms": [{"table": "cases", "words": []}]}, "synonyms.0.words"),
        ([], "semantics"),
    ],
)
def test_an_overlay_with_a_fault_is_refused_with_its_key(data: object, said: str) -> None:
    with pytest.raises(SemanticsInvalid) as caught:
        parse_semantics(data)
    assert said in caught.value.message


def test_an_overlay_replaces_what_has_the_same_name_and_has_the_last_word() -> None:
    overlay = parse_semantics(
        {
            "measures": [{"name": "open_cases", "table": "cases", "sql": "count(*)", "description": "All of them."}],
            "synonyms": [{"table": "cases", "words": ["foyer"]}],
            "personal_data": [{"column": "dob", "pii": False}, {"column": "caste", "why": "Caste."}],
        }
    )
    merged = SHIPPED.under(overlay)
    assert [m.sql for m in merged.measures if m.name == "open_cases"] == ["count(*)"]
    assert len(merged.measures) == len(SHIPPED.measures)
    assert {"foyer", "case", "client"} <= set(merged.words_of("cases"))
    assert merged.personal("case_mother", "dob", "date") is None
    assert merged.personal("case_mother", "caste", "text") == "Caste."
    assert SHIPPED.personal("case_mother", "dob", "date")
    assert parse_semantics(overlay.as_dict()) == overlay
    assert SHIPPED.under(Semantics()) == SHIPPED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Téléphone", "TELEPHONE"),
        ("Straße", "strasse"),
        ("Ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("ﬁeld", "field"),
        ("مُحَمَّد", "محمد"),
        ("한국어", "한국어"),
        ("Ελλάδα", "ελλαδα"),
    ],
)
def test_words_are_compared_without_case_accents_and_widths(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("दिन", "दीन"), ("कि", "का"), ("ก่า", "กา")])
def test_vowel_signs_are_no_accents(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text())
def test_any_text_folds_and_folding_again_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert all(words(text))
