"""The page beside an answer, in a real browser and a sandbox as hosts make it: rows that sort, charts, and nothing that runs."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from mcp_bridge.answers.envelope import Answer, failure, success
from mcp_bridge.sql import QueryFailed
from tests.browser.host import shown

ATTACK = '<img src=x onerror="window.top.attacked=1"><script>window.top.attacked=1</script>'
COLUMNS = [{"name": "month", "type": "date"}, {"name": "place", "type": "text"}, {"name": "visits", "type": "bigint"}]
ROWS: list[list[Any]] = [
    ["2026-03-01", "C", 9],
    ["2026-01-01", ATTACK, 100],
    ["2026-02-01", '=HYPERLINK("javascript:alert(1)")', None],
    ["2026-04-01", "गाँव", "9007199254740993"],
]


@pytest.fixture
def tab(browser: Browser) -> Any:
    context = browser.new_context()
    # Whatever the page asks the network for is noted, and fails.
    asked: list[str] = []
    context.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
    yield context.new_page()
    assert [url for url in asked if not url.startswith(("about:", "data:"))] == []
    context.close()


def answer(rows: list[list[Any]] = ROWS) -> dict[str, Any]:
    data = {
        "columns": COLUMNS, "rows": rows, "row_count": len(rows), "truncated": False, "next_cursor": None,
        "sources": [{"table": "visits<b>", "run_id": "r1", "as_of": "2026-05-01T00:00:00Z"}],
    }  # fmt: skip
    result = success(Answer(data, ["Checks fail on: <i>visits</i>."], "marts"), "demo:one", 3, {})
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)


def test_rows_sort_and_are_texts_only(tab: Page) -> None:
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    view = shown(tab, answer(), theme="light")
    expect(view.get_by_role("heading")).to_have_text("Result for demo:one")
    expect(view.get_by_role("status")).to_have_text("4 rows, all rows")
    places = view.locator("tbody td:nth-child(2)")
    assert places.all_text_contents()[1] == ATTACK
    view.get_by_role("button", name="visits").click()
    numbers = view.locator("tbody td:nth-child(3)")
    assert numbers.all_text_contents() == ["9", "100", "9007199254740993", "null"]
    expect(view.get_by_role("columnheader", name="visits")).to_have_attribute("aria-sort", "ascending")
    view.get_by_role("button", name="visits").click()
    assert numbers.all_text_contents() == ["9007199254740993", "100", "9", "null"]
    expect(view.locator("#warnings")).to_have_text("Checks fail on: <i>visits</i>.")
    expect(view.locator("#sources")).to_contain_text("visits<b>: as of 2026-05-01T00:00:00Z, run r1")
    for kind in ("Bars", "Lines", "Table"):
        view.get_by_role("button", name=kind).click()
    # Nothing of the source became an element, and nothing ran.
    assert view.locator("img, i, td script, a, iframe").count() == 0
    assert tab.evaluate("window.attacked") is None
    assert errors == []


def test_charts_say_what_they_show_and_the_host_is_told_the_size(tab: Page) -> None:
    view = shown(tab, answer([row for row in ROWS if row[2] != "9007199254740993"]), theme="dark")
    view.get_by_role("button", name="Bars").click()
    view.get_by_label("By", exact=True).select_option(label="place")
    expect(view.get_by_role("img")).to_have_attribute("aria-label", "Bars of visits by place, 2 values")
    assert view.locator("rect.bar").count() == 2
    view.get_by_role("button", name="Lines").click()
    view.get_by_label("By", exact=True).select_option(label="month")
    expect(view.locator("circle.dot")).to_have_count(2)
    # Over time, whatever the order of the rows.
    assert view.locator("circle title").all_text_contents() == ["2026-01-01: 100", "2026-03-01: 9"]
    assert view.locator("html").evaluate("root => getComputedStyle(root).colorScheme") == "dark"
    methods = [message.get("method") for message in tab.evaluate("window.told")]
    assert (
        methods[:2] == ["ui/initialize", "ui/notifications/initialized"] or "ui/notifications/size-changed" in methods
    )
    assert set(methods) == {"ui/initialize", "ui/notifications/initialized", "ui/notifications/size-changed"}


def test_what_changed_between_runs_and_failures_are_shown_too(tab: Page) -> None:
    compared = Answer(
        {
            "before": {"run_id": "r1", "at": "2026-11-30T04:00:00Z"},
            "after": {"run_id": "r2", "at": "2026-12-01T04:00:00Z"},
            "first_difference": f"loading: cases 3 new {ATTACK}",
            "steps": {"loading": {"before_s": 0.5, "after_s": 2.5}, "tables": {"before_s": 1.2}},
            "tables": [
                {"table": "cases", "rows": 9, "new": 3, "types": {"age": "text -> integer"}},
                {"table": "visits", "rows": 4, "new": 12},
            ],
        },
        [],
        None,
    )
    view = shown(tab, success(compared, "demo:one", 1, {}).model_dump(by_alias=True, mode="json", exclude_none=True))
    expect(view.get_by_role("heading")).to_have_text("What changed for demo:one")
    expect(view.locator("#message")).to_have_text(f"First difference: loading: cases 3 new {ATTACK}")
    view.get_by_role("button", name="new").click()
    assert view.locator("tbody tr").first.locator("td").all_text_contents()[:3] == ["cases", "9", "3"]
    assert '{"age":"text -> integer"}' in view.locator("tbody tr").first.inner_text()
    view.get_by_role("button", name="Bars").click()
    view.get_by_label("Value", exact=True).select_option(label="new")
    assert view.locator("rect.bar").count() == 2
    view.get_by_label("Part").select_option(label="steps")
    assert view.locator("tbody td").all_text_contents() == ["loading", "0.5", "2.5", "tables", "1.2", ""]
    refused = QueryFailed("timeout", f"It took too long. {ATTACK}", next_step="Filter earlier.")
    failed = failure(refused, "demo:one", 1).model_dump(by_alias=True, mode="json", exclude_none=True)
    view = shown(tab.context.new_page(), failed)
    expect(view.locator("#message")).to_have_text(f"It took too long. {ATTACK} Filter earlier.")
    assert tab.evaluate("window.attacked") is None
