"""Names of tables and columns: readable, valid, unique, stable."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.tables.identifiers import RESERVED, identifier, unique_identifiers

VALID = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
anything = st.text(st.characters(exclude_categories=[]), max_size=120)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("visit-date", "visit_date"),
        ("Visit Date", "visit_date"),
        ("  DOB ", "dob"),
        ("order", "order_"),
        ("pg_class", "x_pg_class"),
        ("1st_visit", "x_1st_visit"),
        ("गर्भावस्था", "grbhaavsthaa"),
        ("Prénom", "prenom"),
        ("ctid", "ctid_"),
    ],
)
def test_names_read_like_their_source(text: str, name: str) -> None:
    assert identifier(text) == name


def test_parts_show_the_way_to_a_question() -> None:
    assert identifier("danger_signs", "Bleeding?") == "danger_signs__bleeding"


def test_a_long_path_keeps_its_question_and_a_hash_of_the_way() -> None:
    first = identifier("g" * 60, "bleeding")
    assert first.startswith("bleeding_")
    assert first != identifier("h" * 60, "bleeding")


def test_names_equal_in_their_first_63_bytes_stay_apart() -> None:
    assert identifier("q" * 70 + "a") != identifier("q" * 70 + "b")


def test_text_without_letters_is_named_by_its_hash() -> None:
    assert identifier("") != identifier("???") != identifier("!!!")
    assert VALID.match(identifier("", prefix="case_"))


@given(anything, st.sampled_from(["", "case_", "form_"]), st.integers(24, 63))
def test_every_text_has_a_valid_name(text: str, prefix: str, max_bytes: int) -> None:
    name = identifier(text, prefix=prefix, max_bytes=max_bytes)
    assert VALID.match(name)
    assert len(name.encode()) <= max_bytes
    assert name not in RESERVED
    assert not name.startswith("pg_")
    assert name.startswith(prefix)


@given(
    st.lists(st.one_of(anything, st.sampled_from(["DOB", "dob", "d-o-b", "d_o_b", "Dob"])), unique=True, max_size=12)
)
def test_names_are_unique_whatever_collides(texts: list[str]) -> None:
    names = unique_identifiers(((text, identifier(text)) for text in texts), taken={"case_id"})
    assert list(names) == texts
    assert len(set(names.values())) == len(texts)
    assert all(VALID.match(name) and name != "case_id" for name in names.values())


@given(st.lists(st.sampled_from(["DOB", "dob", "age", "sex", "Sex", "visit-date", "visit_date", "x"]), unique=True))
def test_names_do_not_depend_on_order_nor_on_the_unrelated(texts: list[str]) -> None:
    names = unique_identifiers((text, identifier(text)) for text in texts)
    assert unique_identifiers((text, identifier(text)) for text in reversed(texts)) == names
    assert unique_identifiers((text, identifier(text)) for text in [*texts, "unrelated"]) == {
        **names,
        "unrelated": "unrelated",
    }


def test_the_exact_spelling_keeps_the_plain_name() -> None:
    names = unique_identifiers([("DOB", "dob"), ("dob", "dob")])
    assert names["dob"] == "dob"
    assert re.fullmatch(r"dob_[0-9a-f]{8}", names["DOB"])
