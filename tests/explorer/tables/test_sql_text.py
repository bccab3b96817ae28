"""Text of applications in generated files: it is read back unchanged and never executed."""

from collections.abc import Iterator
from typing import Any
from unicodedata import category

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from explorer.tables.sql_text import literal, one_line, quoted, text_array

NASTY = [
    "'; drop table cases; --",
    "\\'; select 1",
    "{{ env_var('DBT_ENV_SECRET_EXPLORER_PASSWORD') }}",
    "{% do run_query('drop table cases') %}",
    "{# gone #}",
    "{{{{",
    "{",
    "%} {%",
    "*/ /* $$ $lock$",
    "E'\\x41'",
    "%s %(a)s",
    "line\nbreak",
    "प्रश्न 😀",
    "{{ '{' }}",
    "",
]
texts = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=40), st.lists(st.sampled_from(NASTY), max_size=3).map(" ".join)
)


@pytest.fixture(scope="module")
def connection(connections: Connections) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with connections.service.connect(autocommit=True) as conn:
        yield conn


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts)
def test_a_literal_is_the_text(connection: psycopg.Connection[tuple[Any, ...]], text: str) -> None:
    sql = f"select {literal(text)}, {text_array([text, 'b'])}"
    expected = text.replace("\x00", "\ufffd")
    assert connection.execute(sql.encode()).fetchall() == [(expected, [expected, "b"])]


@given(texts)
def test_a_comment_is_the_text_on_one_line(text: str) -> None:
    seen = one_line(text)
    assert seen == "".join(" " if category(char) in ("Cc", "Cs") or char in "\u2028\u2029" else char for char in text)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert literal("a\ud800") == "E'a\\ufffd'"


@pytest.mark.parametrize("name", ['a"b', "A", "", "a" * 64, "a b", "a{"])
def test_only_generated_names_are_quoted(name: str) -> None:
    with pytest.raises(ValueError, match="not a generated identifier"):
        quoted(name)
