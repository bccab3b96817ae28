"""The pictures of docs/sign_in.md, made anew: python -m tests.browser.screenshots"""

import tempfile
from pathlib import Path

from demo_commcare import NUTRITION
from demo_commcare.sign_in.accounts import DATA_OFFICER
from tests.browser.place import DESKTOP, NIGHT, chromium, logs_in, open_place, opened
from tests.conftest import own_server
from tests.mcp_bridge.stage import ROOT

FOLDER = ROOT / "docs" / "screenshots"
CLAUDE = "https://claude.ai/oauth/mcp-oauth-client-metadata"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        own_server() as server,
        open_place(server, Path(folder)) as place,
        chromium() as browser,
    ):
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
