"""Generated files, and generated parts of documents, are up to date."""

import re

import pytest

from devtools import dbt_sources, tables_doc
from devtools.documents import renewed


def test_the_sources_of_dbt_are_the_tables_of_the_providers() -> None:
    found = dict(dbt_sources.rendered())
    assert [path.parent.name for path in found] == ["commcare"]
    for path, content in found.items():
        assert path.read_text(encoding="utf-8") == content, "run `python -m devtools.dbt_sources`"


def test_the_manual_of_tables_is_what_tables_and_models_say() -> None:
    text = tables_doc.DOCUMENT.read_text(encoding="utf-8")
    assert text == renewed(text, "tables", tables_doc.fixed_tables()), "run `python -m devtools.tables_doc`"
    assert text == renewed(text, "models", tables_doc.models()), "run `python -m devtools.tables_doc`"
    assert "### owners\n" in text
    assert "### form_activity\n" in text


def test_the_manual_lists_the_checks_of_data_quality() -> None:
    model = dbt_sources.MODELS / "commcare" / "intermediate" / "int_commcare__data_quality.sql"
    checks = re.findall(r"""\('(\w+)', "[^"]*", '([^']*)'\)""", model.read_text(encoding="utf-8"))
    assert len(checks) > 20
    text = tables_doc.DOCUMENT.read_text(encoding="utf-8")
    assert [name for name, about in checks if f"| `{name}` | {about} |" not in text] == []


def test_only_what_lies_between_the_marks_is_renewed() -> None:
    text = "# Before\n<!-- a -->\n- old\n<!-- /a -->\n<!-- b -->\n<!-- /b -->\nafter\n"
    assert renewed(text, "a", "- new\n") == text.replace("old", "new")
    with pytest.raises(ValueError, match="no lines <!-- c --> and <!-- /c -->"):
        renewed(text, "c", "")
