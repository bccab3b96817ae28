"""The pictures of docs/sign_in.md and docs/connect.md, made anew: python -m tests.browser.screenshots"""

import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from demo_commcare import NUTRITION
from demo_commcare.sign_in.accounts import DATA_OFFICER
from mcp_bridge.answers.envelope import Answer, success
from tests.browser.host import shown
from tests.browser.place import DESKTOP, NIGHT, chromium, logs_in, open_place, opened
from tests.conftest import own_server
from tests.mcp_bridge.stage import ROOT

FOLDER = ROOT / "docs" / "screenshots"
CLAUDE = "https://claude.ai/oauth/mcp-oauth-client-metadata"


VISITS = {"2026-06": 41, "2026-07": 58, "2026-08": 73, "2026-09": 66, "2026-10": 91, "2026-11": 84}


def views(browser: Browser) -> None:
    """The page beside an answer: as a table by day, as bars by night."""
    data = {
        "columns": [{"name": "month", "type": "text"}, {"name": "visits", "type": "bigint"}],
        "rows": [list(each) for each in VISITS.items()],
        "truncated": False,
        "sources": [{"table": "form_visit", "run_id": "4f3c21aa", "as_of": "2026-12-01T04:00:00Z"}],
    }
    result = success(Answer(data, [], "marts"), "demo:nutrition", 4, {})
    given = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    for name, theme in (("Table", "light"), ("Bars", "dark")):
        page = browser.new_page(viewport={"width": 760, "height": 340})
        view = shown(page, given, theme=theme)
        view.get_by_role("button", name=name, exact=True).click()
        page.screenshot(path=FOLDER / f"view-{name.lower()}.png")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        own_server() as server,
        open_place(server, Path(folder)) as place,
        chromium() as browser,
    ):
        views(browser)
        claude = place.link(CLAUDE, "https://claude.ai/api/mcp/auth_callback")
        for name, device in (("desktop", DESKTOP), ("phone", NIGHT)):
            page = opened(browser.new_context(**device), claude)
            page.screenshot(path=FOLDER / f"sign-in-consent-{name}.png", full_page=True)
            page.get_by_role("button", name="Sign in with CommCare HQ").click()
            logs_in(page, DATA_OFFICER)
            page.get_by_role("button", name="Connect", exact=True).wait_for()
            page.screenshot(path=FOLDER / f"sign-in-spaces-{name}.png", full_page=True)
        page = opened(browser.new_context(**DESKTOP), place.link(place.registers("Claude")))
        page.screenshot(path=FOLDER / "sign-in-pretender.png", full_page=True)
        with place.not_registered(NUTRITION):
            page = opened(browser.new_context(**DESKTOP), claude)
            page.get_by_role("button", name="Sign in with CommCare HQ").click()
            logs_in(page, place.demo.username)
            page.get_by_role("button", name="Register").click()
            page.get_by_role("button", name="Register and bring in the data").wait_for()
            page.screenshot(path=FOLDER / "sign-in-register.png", full_page=True)


if __name__ == "__main__":
    main()
