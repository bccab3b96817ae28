"""The page of a data dictionary in a real browser: it finds, it reads well without a script and on paper, and nothing of the
source runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from mcp_bridge.dictionary.page import as_html
from tests.browser.place import DESKTOP, NIGHT, PHONE, Device
from tests.mcp_bridge.dictionary.samples import DICTIONARY

AXE = Path(__file__).parents[1] / "external" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "dictionary.html"
    path.write_text(as_html(DICTIONARY), encoding="utf-8")
    return path.as_uri()


def opened(browser: Browser, file: str, device: Device, *, script: bool = True) -> Iterator[Page]:
    """The page, which may load nothing but itself, and may not complain."""
    context = browser.new_context(**device, java_script_enabled=script)
    asked, said = list[str](), list[str]()
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file)
    yield page
    assert (asked, said) == ([file], [])
    context.close()


@pytest.fixture(params=[DESKTOP, PHONE, NIGHT], ids=["desktop", "phone", "night"])
def page(browser: Browser, file: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    yield from opened(browser, file, request.param)


def test_it_finds_columns_by_words_of_any_language(page: Page) -> None:
    box, rows = page.get_by_label("Find tables, columns, questions, options"), page.locator("tbody tr:visible")
    expect(rows).to_have_count(5)
    # Accents and case are nothing; the words of options count.
    for words in ("ROBINET", "पानी", "source d'eau", "water piped"):
        box.fill(words)
        expect(rows).to_have_count(1)
        expect(rows.first).to_contain_text("water")
        expect(page.locator("#found")).to_have_text("1 columns in 1 tables")
        expect(page.locator("nav li:visible")).to_have_count(1)
    # The words of a table show all of it.
    box.fill("case_household")
    expect(page.locator("main section:visible")).to_have_count(1)
    expect(rows).to_have_count(4)
    box.fill("nowhere")
    expect(page.locator("main section:visible")).to_have_count(0)
    box.fill("")
    expect(rows).to_have_count(5)


def test_texts_of_the_source_are_texts_and_the_page_is_for_everybody(page: Page) -> None:
    assert page.evaluate("window.attacked") is None
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it has to be moved sideways"
    # By the debugger's door: the page's own policy lets no other script in.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert len(found["passes"]) > 10


def test_without_a_script_all_of_it_is_there_but_the_box(browser: Browser, file: str) -> None:
    for page in opened(browser, file, DESKTOP, script=False):
        expect(page.locator("tbody tr:visible")).to_have_count(5)
        expect(page.get_by_role("searchbox")).to_have_count(0)
        page.get_by_role("link", name="case_household").click()
        expect(page.get_by_role("heading", name="case_household")).to_be_in_viewport()


def test_on_paper_no_column_is_cut_off(browser: Browser, file: str) -> None:
    for page in opened(browser, file, {"viewport": {"width": 700, "height": 1000}}):
        page.emulate_media(media="print")
        expect(page.get_by_role("searchbox")).to_have_count(0)
        widths = (
            "[...document.querySelectorAll('table')].map((table) => table.getBoundingClientRect().right <= innerWidth)"
        )
        assert page.evaluate(widths) == [True, True]
