"""What the files of a dictionary hold: all that is known, as texts that nothing runs."""

import base64
import csv
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

from mcp_bridge.dictionary.csv_rows import as_csv
from mcp_bridge.dictionary.markdown import as_markdown
from mcp_bridge.dictionary.page import as_html
from tests.mcp_bridge.dictionary.samples import ATTACK, DICTIONARY, FORMULA


class Parsed(HTMLParser):
    """Elements with their attributes, and the texts of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.own: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and self.cdata_elem:
            self.own[self.cdata_elem] = data


def test_the_page_has_no_element_of_the_source_and_reaches_for_nothing() -> None:
    html = as_html(DICTIONARY)
    page = Parsed(html)
    assert [tag for tag, _ in page.elements if tag in ("script", "style", "img", "link", "iframe", "b", "object")] == [
        "style", "b", "b", "b", "script",
    ]  # fmt: skip
    named = {name for _, attributes in page.elements for name in attributes}
    assert {name for name in named if name.startswith("on")} == set()
    assert {a["href"] for tag, a in page.elements if tag == "a"} == {"#tables", "#case_household", "#cases"}
    assert "src" not in named
    assert "http" not in re.sub("http-equiv|http://127", "", html)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.own[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in (policy or "")
    assert (policy or "").startswith("default-src 'none'")


def test_the_page_tells_each_language_apart() -> None:
    spoken = [a.get("lang") for tag, a in Parsed(as_html(DICTIONARY)).elements if tag == "span"]
    # The code that is none is shown, and no attribute. English is the label itself.
    assert spoken.count("fr") == 3
    assert spoken.count("hi") == 2
    assert set(spoken) == {None, "fr", "hi"}
    assert as_html(DICTIONARY).count("Source of water") == 1


def test_csv_has_a_row_for_each_column_and_no_formula() -> None:
    text = as_csv(DICTIONARY)
    assert "\r\n" in text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["table"], row["column"]) for row in rows] == [
        ("case_household", "case_id"), ("case_household", "head_name"), ("case_household", "water"),
        ("case_household", "balance"), ("cases", "case_id"),
    ]  # fmt: skip
    water, balance = rows[2], rows[3]
    assert (water["question_fr"], water["question_hi"]) == ("Source d'eau", "पानी का स्रोत")
    assert water["options"] == f"tap = Piped water; {ATTACK} = {FORMULA}"
    assert water["options_hi"] == "tap = नल"
    assert (balance["least"], balance["greatest"], balance["unfit"]) == ("-5", "10", "4")
    assert (rows[0]["key"], rows[1]["personal_data"]) == ("key", "Name.")
    assert [cell for row in rows for cell in row.values() if (cell and cell[0] in "=+@\t\r") or cell == "-"] == []


def test_a_label_that_is_a_formula_becomes_a_text() -> None:
    table = DICTIONARY.tables[0]
    asked = replace(table.columns[2], question=FORMULA)
    rows = csv.DictReader(io.StringIO(as_csv(replace(DICTIONARY, tables=(replace(table, columns=(asked,)),)))))
    assert next(rows)["question"] == f"'{FORMULA}"


def test_markdown_keeps_its_table_whatever_the_texts_are() -> None:
    text = as_markdown(DICTIONARY)
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in cells} == {6}
    assert [line for line in text.splitlines() if re.match("#+ ", line)][1:] == ["## case\\_household", "## cases"]
    assert not re.search(r"(?<!\\)<", text.replace("</pre><b>", ""))
    assert "fr: Source d'eau" in text
    assert "Agents may not read columns with personal data." in text
    assert "- failing checks: values\\_fit (4 found)" in text
