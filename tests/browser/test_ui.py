"""The Dagster UI in a real browser: by a link that works once, and by the organisation's identity provider."""

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.place import TOKEN, Place, opened, ui_link

MUTATION = (
    'mutation { addDynamicPartition(partitionKey: "KEY", partitionsDefName: "tenants", repositorySelector: '
    '{repositoryName: "__repository__", repositoryLocationName: "explorer"}) { __typename } }'
)
RIGHTS = "{ permissions { permission value disabledReason } }"
# What a page of the UI does, with the browser's own cookies.
ASK = """query => fetch("/graphql", {method: "POST", headers: {"content-type": "application/json"},
         body: JSON.stringify({query})}).then(answer => answer.json().then(said => [answer.status, said]))"""


def is_open(page: Page) -> None:
    expect(page.get_by_role("link", name="Catalog")).to_be_visible()


def test_a_link_opens_the_ui_once(place: Place, browser: Browser, context: BrowserContext) -> None:
    link = ui_link(place)
    page = opened(context, link)
    is_open(page)
    assert link.rpartition("/")[2] not in page.url
    (cookie,) = context.cookies(place.ui)
    assert (cookie["httpOnly"], cookie["sameSite"], TOKEN in cookie["value"]) == (True, "Lax", False)
    assert page.evaluate(ASK, MUTATION.replace("KEY", "by a link"))[0] == 200
    stranger = browser.new_context()
    second = stranger.new_page()
    answer = second.goto(link)
    assert answer is not None
    assert answer.status == 401
    expect(second.get_by_role("heading")).to_have_text("Sign in to the Dagster UI")
    stranger.close()
    assert page.evaluate("fetch('/session/end', {method: 'POST'}).then(answer => answer.status)") == 200
    ended = page.goto(f"{place.ui}/runs")
    assert ended is not None
    assert ended.status == 401


def signs_in(place: Place, context: BrowserContext, who: str) -> Page:
    """The page to which the organisation's provider lets a person, who came to the UI by another name of the machine."""
    page = opened(context, place.ui.replace("127.0.0.1", "localhost"))
    page.get_by_role("link", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Open the Dagster UI")
    # A project space's administrators are none of the installation's.
    assert page.get_by_role("button").all_text_contents() == ["Sign in with Acme", "Cancel"]
    page.get_by_role("button", name="Sign in with Acme").click()
    page.get_by_role("link", name=who).click()
    return page


@pytest.mark.parametrize(("who", "status"), [("olga", 200), ("vera", 403)])
def test_the_organisations_people_come_in_with_their_role(
    place: Place, context: BrowserContext, who: str, status: int
) -> None:
    page = signs_in(place, context, who)
    is_open(page)
    assert page.evaluate(ASK, "{ version }")[0] == 200
    answer = page.evaluate(ASK, MUTATION.replace("KEY", f"by {who}"))
    assert (answer[0], "role" in str(answer[1])) == (status, status == 403)
    rights = page.evaluate(ASK, RIGHTS)[1]["data"]["permissions"]
    assert any(each["value"] for each in rights) == (status == 200)
    page.goto(f"{place.ui}/locations/explorer/jobs/commcare_sync")
    button = page.get_by_role("button", name="Materialize all…")
    expect(button).to_be_visible()
    assert button.is_enabled() == (status == 200)
    (cookie,) = [each for each in context.cookies(place.ui) if "person" in each["name"]]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    bearer = {"Authorization": f"Bearer {cookie['value']}"}
    assert httpx.post(f"{place.url}/mcp", headers=bearer, trust_env=False).status_code == 401
    changes = [record.entry.action for record in place.catalog.audit.read(actor=f"person:acme:{who}", limit=20)]
    assert ("dagster_mutation" in changes) == (status == 200)
    if who != "olga":
        return
    # What the operator ends is over within seconds.
    place.cli("people", "revoke", f"person:acme:{who}")
    page.wait_for_timeout(6_000)
    gone = page.goto(f"{place.ui}/runs")
    assert gone is not None
    assert gone.status == 401


def test_who_has_no_role_stays_out(place: Place, context: BrowserContext) -> None:
    page = signs_in(place, context, "nils")
    expect(page.get_by_role("heading", level=1)).to_have_text("The Dagster UI is not open to you")
    assert context.cookies(place.ui) == [] or "person" not in str(context.cookies(place.ui))
    answer = page.goto(place.ui)
    assert answer is not None
    assert answer.status == 401
