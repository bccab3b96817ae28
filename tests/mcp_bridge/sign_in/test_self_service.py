"""Project spaces that are no tenants yet: people ask for them, the operator answers, an administrator registers one.

The pages of a bridge, the demo server's people, and the provisioning job of a real Dagster.
"""

import re
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import httpx
import pytest

from demo_commcare import MATERNAL, NUTRITION
from demo_commcare.sign_in.accounts import DATA_OFFICER
from explorer.catalog import ApiKeyCredential, Decision, ProvisioningRequest, Scope
from explorer.tenants import add_tenant, remove_tenant
from mcp_bridge.sign_in.identity import RegistrationRefused, Unavailable
from mcp_bridge.sign_in.server import SignInParts
from tests.conftest import PgServer
from tests.demo_browser import Browser
from tests.mcp_bridge.sign_in.clinic import Clinic
from tests.mcp_bridge.sign_in.house import (
    CALLBACK,
    FakeJwt,
    FakeMembership,
    FakeProvider,
    House,
    Person,
    answer_in,
    hidden,
    serving,
)
from tests.unasked import Unasked

ADMIN = "demo@example.org"
KEY = f"demo:{NUTRITION}"
NOBODY = "http://127.0.0.1:9"
SPACE = "Nutrition de l&#39;enfant"


@dataclass
class Door:
    """A bridge, and people who come to it."""

    clinic: Clinic
    house: House
    people: dict[str, Person] = field(default_factory=dict)

    def comes(self, username: str) -> tuple[Person, httpx.Response]:
        """The person, and page 2 after they picked the nutrition programme."""
        person = Person(self.house)
        away = person.sends(person.asks(self.house.client()), provider="demo")
        back = Browser(self.clinic.server).comes_from(away.headers["location"], username, NUTRITION)
        return person, person.goes(person.goes(back).headers["location"])

    def presses(self, person: Person, page: httpx.Response, name: str, number: str = "0") -> httpx.Response:
        """What follows a button of a space on page 2, which sends the page's form elsewhere."""
        return person.http.post(
            f"{self.house.url}/oauth/space", data={**hidden(page), name: number}, headers={"Origin": self.house.url}
        )

    def registers(self, person: Person, page: httpx.Response, api_key: str, to: str | None = None) -> httpx.Response:
        """The last page of progress after the form was sent; `to`: to another bridge, where somebody looks once."""
        form = self.presses(person, page, "register")
        assert form.status_code == 200, form.text
        assert re.findall(r'<option value="(\w+)"', form.text) == ["usual", "daily", "none"]
        given = {"field_username": self.clinic.server.username, "field_api_key": api_key, "follows": "daily"}
        sent = person.sends(form, to, decision="register", origin=to or self.house.url, **given)
        assert sent.status_code == 303, sent.text
        if to is not None:
            assert person.goes(sent.headers["location"]).headers.get("refresh")
        until = time.monotonic() + 120
        while (shown := person.goes(sent.headers["location"], self.house.url)).headers.get("refresh"):
            assert shown.status_code == 200
            assert time.monotonic() < until, shown.text
            time.sleep(0.3)
        return shown

    def gives_a_key_of(self, username: str, person: Person, page: httpx.Response) -> str:
        """The form again, with what is wrong: the role of the key's owner sees a part of the space."""
        control = self.clinic.server.control
        control.set_role(NUTRITION, username, "Data Officer", permissions={"access_all_locations": False})
        try:
            form = self.presses(person, page, "register")
            again = person.sends(
                form, decision="register", field_username=username, field_api_key="k" * 40, follows="none"
            )
        finally:
            control.set_role(NUTRITION, username, "Data Officer", permissions={"access_all_locations": True})
        assert again.status_code == 400, again.text
        return again.text


@contextmanager
def door(clinic: Clinic, dagster_url: str, more: str) -> Iterator[Door]:
    parts: SignInParts = clinic.parts(more)
    settings = clinic.settings.model_copy(update={"dagster_url": dagster_url})
    with serving(settings, parts) as url:
        house = House(clinic.catalog, {}, FakeProvider(), FakeMembership(), FakeJwt(), {}, url, url)
        yield Door(clinic, house)


def buttons(page: httpx.Response) -> list[str]:
    return re.findall(r'<button class="small" name="(\w+)"', page.text)


def words(page: httpx.Response) -> str:
    """What a person reads, for the message of a test that failed."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text.partition("<main")[2]))


def entries(clinic: Clinic, username: str) -> list[tuple[str, str]]:
    """What the audit tells of the person, oldest first."""
    found = [record.entry for record in clinic.catalog.audit.read(limit=1000)]
    return [(e.action, e.outcome) for e in reversed(found) if e.actor == f"person:demo:{username}"]


@pytest.fixture
def no_requests(pg_server: PgServer) -> Iterator[None]:
    """Leaves none behind."""
    yield
    with pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute("DELETE FROM catalog.tenant_requests")


@pytest.mark.usefixtures("no_requests")
def test_one_asks_and_the_operator_answers_with_words(clinic: Clinic, dagster_url: str) -> None:
    """A wish gives nobody anything; one that was approved lets an administrator register, and nobody else."""
    requests = clinic.catalog.tenant_requests
    with door(clinic, dagster_url, "self_service: request") as at:
        person, page = at.comes(DATA_OFFICER)
        assert buttons(page) == ["ask"]
        assert at.presses(person, page, "register").status_code == 303
        again = person.goes(at.presses(person, page, "ask").headers["location"])
        assert "You have asked for it" in again.text
        assert buttons(again) == []
        (asked,) = [each for each in requests.list() if each.external_id == NUTRITION]
        assert asked.actor == f"person:demo:{DATA_OFFICER}"
        assert ("tenant_requested", "ok") in entries(clinic, DATA_OFFICER)
        assert buttons(at.comes(ADMIN)[1]) == ["ask"], "the wish of somebody else"
        requests.decide(asked.id, Decision.REFUSED, "Not before the audit <b>is over</b>.")
        refused = at.comes(DATA_OFFICER)[1]
        assert "Not before the audit &lt;b&gt;is over" in refused.text
        requests.decide(asked.id, Decision.APPROVED, None)
        person, page = at.comes(DATA_OFFICER)
        assert buttons(page) == ["register"]
        told = at.presses(person, page, "register")
        assert (told.status_code, "Only an administrator" in told.text) == (400, True)
        person, page = at.comes(ADMIN)
        form = at.presses(person, page, "register")
        assert 'name="field_api_key" type="password"' in form.text
        assert at.presses(person, page, "register", "7").status_code == 400
    with door(clinic, dagster_url, "self_service: off") as at:
        person, page = at.comes(ADMIN)
        assert buttons(page) == []
        for name in ("ask", "register"):
            assert at.presses(person, page, name).headers["location"].startswith(f"{at.house.url}/oauth/connect")


def test_an_administrator_registers_and_sees_the_data_come_in(
    clinic: Clinic, dagster_url: str, pg_server: PgServer
) -> None:
    """What goes wrong is told in words about what they gave, and nothing about other tenants. What one bridge notes while Dagster
    is away, another one does."""
    place = clinic.settings, clinic.catalog, pg_server.connections
    other = add_tenant(
        *place, Unasked("Of somebody else"), key=KEY.replace("demo:", "DEMO:"), server="http://127.0.0.1:9",
        external_id="strangers-programme", credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
    )  # fmt: skip
    self_service = "self_service: on\nself_service_quota: 1"
    with (
        door(clinic, dagster_url, self_service) as at,
        door(clinic, "http://127.0.0.1:9", self_service) as without_dagster,
    ):
        person, page = at.comes(DATA_OFFICER)
        assert buttons(page) == ["register"]
        assert "Only an administrator" in at.presses(person, page, "register").text
        person, page = at.comes(ADMIN)
        failed = at.registers(person, page, clinic.server.api_key)
        assert "could not be registered under its own name" in failed.text, words(failed)
        assert "strangers-programme" not in failed.text
        remove_tenant(*place, other.key, purge=True)
        with pg_server.connections.catalog.connect(autocommit=True) as connection:
            connection.execute("DELETE FROM catalog.tenants WHERE id = %s", [other.id])
        page = person.goes(person.sends(failed, decision="continue").headers["location"])
        assert "limited to some locations" in at.gives_a_key_of(DATA_OFFICER, person, page)
        failed = at.registers(person, page, "a-wrong-key")
        assert "could not be brought in" in failed.text, words(failed)
        assert "API key" in failed.text, words(failed)
        page = person.goes(person.sends(failed, decision="continue").headers["location"])
        try:
            done = at.registers(person, page, clinic.server.api_key, without_dagster.house.url)
            assert len(re.findall(r'class="done"', done.text)) == 2, done.text
            page = person.goes(person.sends(done, decision="continue").headers["location"])
            assert 'value="connect"' in page.text
            assert "code" in answer_in(person.sends(page, decision="connect"))
            (known,) = [each for each in clinic.catalog.identities.list() if each.identity.username == ADMIN]
            assert known.rights[KEY] == frozenset(Scope)
            assert entries(clinic, ADMIN).count(("tenant_registered", "ok")) == 1
            chosen = clinic.catalog.syncs.of(clinic.catalog.tenants.get(KEY), "commcare_sync")
            assert (chosen.cron, chosen.is_stopped) == ("0 2 * * *", False)
            assert clinic.catalog.credentials.load(clinic.catalog.tenants.get(KEY)) == ApiKeyCredential(
                clinic.server.username, clinic.server.api_key
            )
            with pg_server.connections.admin.connect() as connection:
                kept = connection.execute("SELECT count(secret) FROM catalog.provisioning").fetchone()
            assert kept == (0,), "credentials are kept until a request has ended"
        finally:
            remove_tenant(*place, KEY, purge=True)
        person, page = at.comes(ADMIN)
        told = at.presses(person, page, "register")
        assert "may not register more" in told.text


def test_a_quota_holds_for_requests_at_once(clinic: Clinic) -> None:
    """Of an actor one request is noted at a time, and the next one counts it."""
    store, place = clinic.catalog.provisioning, {"provider": "commcare", "server": NOBODY}
    actor, together, told = "person:demo:at.once@example.org", threading.Barrier(6), list[object]()

    def allow(keys: Set[str]) -> None:
        time.sleep(0.2)
        if keys:
            raise RegistrationRefused("No more.", next_step="Ask.")

    def ask(number: int) -> None:
        credential = ApiKeyCredential("user@example.org", "0123456789abcdef")
        together.wait()
        try:
            told.append(store.ask_to_register(f"at-once:{number}", place, credential, actor, allow))
        except RegistrationRefused as error:
            told.append(error)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    (noted,) = [each for each in told if isinstance(each, ProvisioningRequest)]
    assert len(told) == 6
    assert store.registered_by(actor, "another") == {noted.tenant_key}
    assert store.registered_by(actor, noted.tenant_key) == set()
    with pytest.raises(RegistrationRefused):
        store.ask_to_register("at-once:next", place, ApiKeyCredential("u@example.org", "k" * 16), actor, allow)
    store.end(noted.id, None)
    assert store.registered_by(actor, "another") == set()


def test_a_form_that_comes_twice_is_one_request_and_none_over_what_is_there(clinic: Clinic) -> None:
    """One's own open request is shown again; that of others, and a space that is a tenant by now, are refused in words."""
    service, store = (
        clinic.parts("self_service: on\nself_service_quota: 1").self_service["demo"],
        clinic.catalog.provisioning,
    )
    signed_in = clinic.signs_in(clinic.people("self_service: on"), ADMIN, NUTRITION, MATERNAL)
    # Another one than the administrator of the test before, whose tenants are counted.
    who = replace(signed_in.identity, subject="somebody", username="comes.twice@example.org")
    values = {"username": clinic.server.username, "api_key": clinic.server.api_key}

    def registers(external_id: str) -> ProvisioningRequest:
        space = Unavailable("A space", "It is not here.", external_id, "register")
        return service.register(who, signed_in.tokens, space, values, "daily", lambda tokens: None)

    asked = registers(NUTRITION)
    try:
        assert registers(NUTRITION) == asked
        assert (asked.tenant_key, (asked.place or {})["follows"]) == (KEY, "daily")
    finally:
        store.end(asked.id, None)
    with pytest.raises(RegistrationRefused, match="registered here by now"):
        registers(MATERNAL)
    credential = ApiKeyCredential("user@example.org", "0123456789abcdef")
    of_another = store.ask_to_register(KEY, asked.place or {}, credential, "person:demo:another@example.org")
    assert of_another is not None
    try:
        with pytest.raises(RegistrationRefused, match="Something else was asked"):
            registers(NUTRITION)
    finally:
        store.end(of_another.id, None)


def test_a_sign_in_that_waits_for_its_data_does_not_end(clinic: Clinic, pg_server: PgServer) -> None:
    requests, ends = (
        clinic.catalog.oauth_requests,
        "SELECT expires_at - now() FROM catalog.oauth_requests WHERE id = %s",
    )
    client = clinic.catalog.oauth_clients.register("A host", (CALLBACK,))
    id_ = requests.begin(client.client_id, CALLBACK, None, [Scope.QUERY_RUN], "c" * 43, "browser")
    with pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(
            "UPDATE catalog.oauth_requests SET expires_at = now() + interval '20 s' WHERE id = %s", [id_]
        )
        requests.prolong(id_, "another browser")
        assert connection.execute(ends, [id_]).fetchone()[0] < timedelta(seconds=21)  # type: ignore[index]
        requests.prolong(id_, "browser")
        assert connection.execute(ends, [id_]).fetchone()[0] > timedelta(seconds=500)  # type: ignore[index]
