"""People sign in, at the UI and for their programs, where deploy's nginx stands before two bridges and the webserver: in the
clear, and by TLS."""

import signal
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.place import DESKTOP, Place, logs_in, open_place, opened, ui_link
from tests.browser.proxy import doors, proxy
from tests.browser.test_ui import ASK, MUTATION, is_open
from tests.conftest import PgServer

# A page's own connection for what changes: the answer of GraphQL's server to its first word.
SOCKET = """() => new Promise((found, lost) => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/graphql", "graphql-ws");
  socket.onopen = () => socket.send(JSON.stringify({type: "connection_init", payload: {}}));
  socket.onmessage = message => { found(JSON.parse(message.data).type); socket.close(); };
  socket.onerror = socket.onclose = () => lost("closed");
})"""
# How many programs of one address may register themselves in a minute.
REGISTER = 20


@pytest.fixture(scope="module", params=["http", "https"])
def behind(
    request: pytest.FixtureRequest, pg_server: PgServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    front, folder = doors(request.param), tmp_path_factory.mktemp("nginx")
    place = open_place(pg_server, tmp_path_factory.mktemp("behind"), front, bridges=2, prefix=request.param)
    with place as made, proxy(made, front, folder):
        made.demo.control.register_redirect_uri(f"{front.bridge}/oauth/callback/demo")
        yield made


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """Somebody at a desk, who takes any certificate."""
    context = browser.new_context(**DESKTOP, ignore_https_errors=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


def signs_in(place: Place, context: BrowserContext, who: str) -> Page:
    page = opened(context, place.ui)
    page.get_by_role("link", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Open the Dagster UI")
    page.get_by_role("button", name="Sign in with Acme").click()
    page.get_by_role("link", name=who).click()
    is_open(page)
    return page


@pytest.mark.parametrize(("who", "status"), [("olga", 200), ("vera", 403)])
def test_the_organisations_people_come_in_with_their_role(
    behind: Place, visitor: BrowserContext, who: str, status: int
) -> None:
    page = signs_in(behind, visitor, who)
    assert page.url.startswith(f"{behind.ui}/")
    (cookie,) = [each for each in visitor.cookies(behind.ui) if "person" in each["name"]]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Lax", behind.ui.startswith("https"))
    assert page.evaluate(ASK, MUTATION.replace("KEY", f"by {who} at {behind.ui}"))[0] == status
    assert page.evaluate(SOCKET) == "connection_ack"
    page.goto(f"{behind.ui}/locations/explorer/jobs/commcare_sync")
    assert page.get_by_role("button", name="Materialize all…").is_enabled() == (status == 200)


def test_who_is_revoked_is_out(behind: Place, visitor: BrowserContext) -> None:
    page = signs_in(behind, visitor, "olga")
    behind.cli("people", "revoke", "person:acme:olga")
    page.wait_for_timeout(6_000)
    gone = page.goto(f"{behind.ui}/runs")
    assert gone is not None
    assert gone.status == 401


def test_a_link_opens_the_ui_once(behind: Place, visitor: BrowserContext) -> None:
    link = ui_link(behind)
    assert link.startswith(f"{behind.ui}/")
    page = opened(visitor, link)
    is_open(page)
    (cookie,) = visitor.cookies(behind.ui)
    assert cookie["secure"] == behind.ui.startswith("https")
    again = page.context.new_page().goto(link)
    assert again is not None


def test_limits_are_of_each_browsers_address_and_nobody_makes_one_up(behind: Place) -> None:
    """Not of the proxy, which would be everybody's; nor what a sender writes into the proxy's header."""

    def registers(address: str, number: int) -> int:
        wanted = {"redirect_uris": [behind.elsewhere.callback]}
        made_up = {"X-Forwarded-For": f"198.51.100.{number}"}
        way = httpx.HTTPTransport(local_address=address, verify=False)
        with httpx.Client(transport=way) as client:
            return client.post(f"{behind.url}/oauth/register", json=wanted, headers=made_up).status_code

    # The minute is that of all bridges of the database, those of the other way too.
    net = f"127.0.{len(behind.url.partition(':')[0])}"
    assert [registers(f"{net}.1", number) for number in range(REGISTER + 1)] == [201] * REGISTER + [429]
    assert registers(f"{net}.2", 0) == 201


def test_a_program_is_connected_and_a_bridge_that_is_killed_is_not_missed(
    behind: Place, visitor: BrowserContext
) -> None:
    """The last test of each: afterwards one bridge is left."""
    client_id = behind.registers("Behind nginx")
    page = opened(visitor, behind.link(client_id))
    page.get_by_role("button", name="Sign in with CommCare HQ").click()
    logs_in(page, behind.demo.username)
    operator = signs_in(behind, page.context.browser.new_context(ignore_https_errors=True), "olga")  # type: ignore[union-attr]
    # The one that served all of this: who has no `Authorization` stays at one.
    _, process = behind.bridges[0]
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The program has its answer")
    answer = {name: values[0] for name, values in behind.elsewhere.arrived.pop().items()}
    assert answer["iss"] == behind.url
    given = behind.exchange(client_id, answer["code"])
    assert given.status_code == 200, given.text
    bearer = {"Authorization": f"Bearer {given.json()['access_token']}"}
    assert httpx.get(f"{behind.url}/mcp", headers=bearer, trust_env=False, verify=False).status_code != 401
    assert operator.evaluate(ASK, "{ version }")[0] == 200
    operator.context.close()
