"""Text of applications in generated files: it is read back unchanged and never executed."""

from collections.abc import Iterator
from typing import Any
from unicodedata import category

import psycopg
import pytest
import yaml
from dbt.clients.jinja import get_rendered
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from explorer.postgres.connections import Connections
from explorer.tables.sql_text import description, literal, quoted, text_array, yaml_document

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
def test_a_literal_is_the_text_after_jinja_and_postgres(
    connection: psycopg.Connection[tuple[Any, ...]], text: str
) -> None:
    sql = f"select {literal(text)}, {text_array([text, 'b'])}"
    assert "{" not in literal(text)
    expected = text.replace("\x00", "\ufffd")
    assert connection.execute(get_rendered(sql, {}).encode()).fetchall() == [(expected, [expected, "b"])]


@settings(deadline=None)
@given(texts)
def test_a_description_is_the_text_after_yaml_and_jinja(text: str) -> None:
    written = yaml.safe_load(yaml_document({"description": description(text)}))["description"]
    seen = get_rendered(written, {})
    assert seen == "".join(" " if category(char) == "Cc" or char in "\u2028\u2029" else char for char in text)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=60), st.lists(st.text())))
@example({"a": ["\ufeff\ufffe\uffff\x7f\x85\u2028 \U0001f476: - #'\"\\ \t\n"]})
def test_a_document_is_read_as_it_was_written(value: dict[str, list[str]]) -> None:
    written = yaml_document(value)
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(written, Loader=loader) == value


def test_lone_surrogates_become_replacement_characters() -> None:
    assert literal("a\ud800") == "E'a\\ufffd'"


@pytest.mark.parametrize("name", ['a"b', "A", "", "a" * 64, "a b", "a{"])
def test_only_generated_names_are_quoted(name: str) -> None:
    with pytest.raises(ValueError, match="not a generated identifier"):
        quoted(name)
