"""The pages of the sign-in in a real browser, from the program's link to its answer."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, Route, expect

from demo_commcare import NUTRITION
from demo_commcare.sign_in.accounts import DATA_OFFICER
from explorer.core.toolsets import Toolset
from tests.browser.place import DESKTOP, NIGHT, PHONE, Device, Place, logs_in, opened

AXE = Path(__file__).parents[1] / "external" / "node_modules" / "axe-core" / "axe.min.js"
CONSENT, CHOICE, AGAIN = "Connect to your data", "Choose what to connect", "Start again in this browser"
WITH_HQ = "Sign in with CommCare HQ"
HEADERS = {"x-frame-options": "DENY", "x-content-type-options": "nosniff", "cache-control": "no-store"}


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def is_sound(page: Page, answer: Response | None = None) -> None:
    """A page of ours: strict headers, no script, nothing that hides from people who do not see or do not point."""
    if answer is not None:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
    assert page.locator("script, img, iframe, link").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it has to be moved sideways"
    # By the debugger's door: the page's own policy lets no script in.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert len(found["passes"]) > 10


def arrives(place: Place, page: Page) -> dict[str, str]:
    """What the program got; the browser must be there, each parameter once."""
    expect(page.get_by_role("heading")).to_have_text("The program has its answer")
    got = place.elsewhere.arrived.pop()
    assert place.elsewhere.arrived == []
    assert all(len(values) == 1 for values in got.values())
    return {name: values[0] for name, values in got.items()}


@pytest.mark.parametrize("device", [PHONE, NIGHT, DESKTOP], ids=["phone", "phone at night", "desktop"])
def test_from_a_programs_link_to_its_answer(place: Place, browser: Browser, device: Device) -> None:
    context = browser.new_context(**device)
    context.set_default_timeout(20_000)
    asked, said = set(), []
    page = context.new_page()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: said.append((message.text, urlsplit(message.location["url"]).path)))
    page.on("pageerror", lambda error: said.append((str(error), "")))
    client_id = place.registers()
    is_sound(page, page.goto(place.link(client_id)))
    heading(page, CONSENT)
    expect(page.get_by_text("The answer goes to")).to_contain_text(f"localhost:{place.elsewhere.port}")
    expect(page.get_by_text("Nobody has confirmed that")).to_be_visible()
    assert asked == {urlsplit(place.url).netloc}
    page.get_by_role("button", name=WITH_HQ).click()
    logs_in(page, DATA_OFFICER)
    heading(page, CHOICE)
    is_sound(page)
    expect(page.get_by_text(f"You are signed in as {DATA_OFFICER}")).to_be_visible()
    for space in ("Maternal health", "Nutrition"):
        expect(page.get_by_role("listitem").filter(has_text=space)).to_contain_text("Read the data with queries")
    page.get_by_role("button", name="Connect", exact=True).click()
    answer = arrives(place, page)
    assert (answer["state"], answer["iss"]) == ("its own", place.url)
    assert [cookie["name"] for cookie in context.cookies(place.url) if "sign-in" in cookie["name"]] == []
    tokens = place.exchange(client_id, answer["code"])
    assert tokens.status_code == 200, tokens.text
    assert asked == {urlsplit(each).netloc for each in (place.url, place.demo.url, place.elsewhere.callback)}
    # Chromium asks each server for an icon, and says what it thinks of having none.
    assert [text for text, path in said if path != "/favicon.ico"] == []
    context.close()


@pytest.mark.parametrize("device", [NIGHT, DESKTOP], ids=["phone at night", "desktop"])
def test_an_administrator_registers_a_project_space(place: Place, browser: Browser, device: Device) -> None:
    context = browser.new_context(**device)
    context.set_default_timeout(20_000)
    with place.not_registered(NUTRITION):
        page = opened(context, place.link(place.registers()))
        page.get_by_role("button", name=WITH_HQ).click()
        logs_in(page, place.demo.username)
        heading(page, CHOICE)
        is_sound(page)
        page.get_by_role("button", name="Register").click()
        heading(page, "Register a project space")
        is_sound(page)
        page.get_by_label("API key").press("Enter")
        # The browser itself asks for what is missing.
        heading(page, "Register a project space")
        page.get_by_label("User name").fill(place.demo.username)
        page.get_by_label("API key").fill(place.demo.api_key)
        page.get_by_label("Look for new data").select_option("once a day")
        page.get_by_role("button", name="Register and bring in the data").click()
        heading(page, "Bringing in the data")
        is_sound(page)
        expect(page.get_by_text("you may leave it, the work goes on")).to_be_visible()
        with page.expect_navigation():
            """It loads itself again."""
        heading(page, "Bringing in the data")
        context.close()


def test_with_the_keyboard_alone(place: Place, context: BrowserContext) -> None:
    page = opened(context, place.link(place.registers()))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    names = []
    while not names or (names[-1] != "Cancel" and len(names) < 10):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # The boxes of the toolsets come first; their text is beside them.
    assert names == [*("" for _ in Toolset), WITH_HQ, "Sign in with Acme", "Cancel"]
    page.keyboard.press("Enter")
    answer = arrives(place, page)
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "its own", place.url)


def test_reloads_tabs_and_the_way_back_do_no_harm(place: Place, context: BrowserContext) -> None:
    link = place.link(place.registers())
    first, other = opened(context, link), opened(context, place.link(place.registers("Another program")))
    first.reload()
    first.reload()
    for page in (first, other):
        page.get_by_role("button", name=WITH_HQ).click()
        if page is first:
            logs_in(page, DATA_OFFICER)
        else:
            page.get_by_role("button", name="Authorize").click()
        heading(page, CHOICE)
    # Back to the log-in's answer, which was used, and forth again.
    first.go_back()
    first.goto(link)
    first.get_by_role("button", name=WITH_HQ).click()
    first.get_by_role("button", name="Authorize").click()
    heading(first, CHOICE)
    for page, name in ((first, "A program of mine"), (other, "Another program")):
        expect(page.get_by_role("heading", level=2).first).to_contain_text(name)
        page.get_by_role("button", name="Connect", exact=True).click()
        assert "code" in arrives(place, page)
    # The form that was sent is no way to a second answer.
    first.go_back()
    if first.get_by_role("button", name="Connect", exact=True).count():
        first.get_by_role("button", name="Connect", exact=True).click()
    heading(first, AGAIN)
    assert place.elsewhere.arrived == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["the same site", "another site"])
def test_a_form_of_another_origin_does_nothing(place: Place, context: BrowserContext, host: str) -> None:
    page = opened(context, place.link(place.registers()))
    page.get_by_role("button", name=WITH_HQ).click()
    logs_in(page, DATA_OFFICER)
    heading(page, CHOICE)
    # As if the page's secrets were known: where the form comes from is checked too.
    fields = {name: page.locator(f"input[name={name}]").get_attribute("value") for name in ("request", "form")}
    inputs = "".join(
        f'<input name="{name}" value="{value}">' for name, value in {**fields, "decision": "connect"}.items()
    )
    place.elsewhere.planted = (
        f'<form method="post" action="{place.url}/oauth/connect">{inputs}</form><script>document.forms[0].submit()</script>'
        f'<iframe src="{page.url}"></iframe>'
    )
    victim = opened(context, f"http://{host}:{place.elsewhere.port}/planted")
    expect(victim.get_by_role("heading", level=1)).to_have_text("This did not come from our page")
    assert place.elsewhere.arrived == []
    page.reload()
    page.get_by_role("button", name="Connect", exact=True).click()
    assert "code" in arrives(place, page)


def test_another_browser_cannot_go_on(place: Place, browser: Browser, context: BrowserContext) -> None:
    page = opened(context, place.link(place.registers()))
    caught: list[str] = []

    def catch(route: Route) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        caught.append(route.fetch(max_redirects=0).headers["location"])
        route.abort()

    page.route(f"{place.demo.url}/oauth/authorize/**", catch)
    page.get_by_role("button", name=WITH_HQ).click()
    page.get_by_label("Email address").fill(DATA_OFFICER)
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_timeout(1_000)
    stranger = browser.new_context()
    heading(opened(stranger, caught[0]), AGAIN)
    stranger.close()
    # It was not used up by that, and works once.
    page.goto(caught[0])
    heading(page, CHOICE)
    page.goto(caught[0])
    heading(page, AGAIN)


def test_who_is_not_what_they_say_is_visible_as_such(place: Place, context: BrowserContext) -> None:
    page = opened(context, place.link(place.registers("Claude")))
    expect(page.get_by_role("alert")).to_contain_text("this is not Claude")
    is_sound(page)
    hostile = "<script>window.stolen=1</script><b>HQ</b> \u202egnp.exe" + "\u200f" + "x" * 90
    page.goto(place.link(place.registers(hostile)))
    expect(page.get_by_text("wants to work with")).to_contain_text("<script>window.stolen=1</script><b>HQ</b> gnp.exe")
    assert page.evaluate("window.stolen") is None
    assert "\u202e" not in page.content()
    is_sound(page)


def test_errors_are_pages_for_people(place: Place, context: BrowserContext) -> None:
    page = context.new_page()
    for address, title in (
        (f"{place.url}/oauth/authorize?client_id=nobody", "This program cannot be connected"),
        (f"{place.url}/oauth/connect?request=x", AGAIN),
        (f"{place.url}/oauth/authorize", "This link cannot be used"),
    ):
        answer = page.goto(address)
        heading(page, title)
        is_sound(page, answer)
    # Nor are they shown inside another site's.
    place.elsewhere.planted = f'<iframe src="{place.link(place.registers())}"></iframe>'
    page.goto(f"http://localhost:{place.elsewhere.port}/planted")
    assert [CONSENT in frame.content() for frame in page.frames[1:]] == [False]
