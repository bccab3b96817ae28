"""People at CommCare HQ: whose project spaces a token shows, what a refusal means, and what a role allows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from demo_commcare.sign_in.accounts import DATA_OFFICER, GUEST, READER, SUPERVISOR
from explorer.catalog import ApiKeyCredential, ProviderTokens
from explorer.core.errors import TransientError
from explorer.core.settings import Settings
from explorer.http.errors import ApiError, CredentialsInvalid, ResponseMalformed
from explorer.providers import provider_named
from explorer.providers.base import Role, SignedInPerson, SignInApp, SignInEnded, SignsPeopleIn
from explorer.providers.commcare.people.sign_in import CommCarePeople
from tests.demo_browser import CALLBACK, Browser

PEOPLE = CommCarePeople()
SETTINGS = Settings(_env_file=None, http_timeout_s=5, http_max_attempts=1)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with serve_in_thread() as running:
        yield running


def app(server: RunningServer) -> SignInApp:
    return SignInApp(server.url, *server.control.oauth_client)


def signed_in(server: RunningServer, username: str, *domains: str) -> ProviderTokens:
    browser = Browser(server)
    address = PEOPLE.authorize_url(
        app(server), redirect_uri=CALLBACK, state="s", challenge=browser.params()["code_challenge"]
    )
    query = parse_qs(urlsplit(browser.comes_from(address, username, *domains)).query)
    assert query["state"] == ["s"]
    return PEOPLE.exchange(
        app(server), code=query["code"][0], verifier=browser.verifier, redirect_uri=CALLBACK, settings=SETTINGS
    )


def look_up(server: RunningServer, tokens: ProviderTokens, **more: Any) -> SignedInPerson:
    return PEOPLE.look_up(app(server), tokens, settings=SETTINGS, **more)


def test_the_provider_says_that_people_can_sign_in() -> None:
    assert isinstance(provider_named("commcare"), SignsPeopleIn)


@pytest.mark.parametrize(
    ("username", "picked", "seen"),
    [(DATA_OFFICER, [MATERNAL, NUTRITION], {MATERNAL, NUTRITION}), (DATA_OFFICER, [NUTRITION], {NUTRITION}), (GUEST, [], set())],
)  # fmt: skip
def test_a_person_has_the_spaces_that_they_picked(
    server: RunningServer, username: str, picked: list[str], seen: set[str]
) -> None:
    person = look_up(server, signed_in(server, username, *picked))
    assert person.username == username
    assert set(person.tenants) == seen


@pytest.mark.parametrize("paged", [False, True])
def test_a_server_that_lists_all_spaces_does_not_give_more_than_was_picked(server: RunningServer, paged: bool) -> None:
    server.control.set_switches(user_domains_of_token=False, user_domains_paged=paged)
    assert set(look_up(server, signed_in(server, DATA_OFFICER, NUTRITION)).tenants) == {NUTRITION}
    server.control.set_switches(domain_picker=False)
    assert set(look_up(server, signed_in(server, DATA_OFFICER)).tenants) == {MATERNAL, NUTRITION}


def test_renewed_tokens_are_kept_before_anything_else(server: RunningServer) -> None:
    tokens, kept = signed_in(server, READER, MATERNAL), []
    server.control.expire_access_tokens()
    server.control.fail("user_domains", times=9)
    with pytest.raises(TransientError):
        look_up(server, tokens, keep=kept.append)
    server.control.clear_faults()
    assert kept[0].access != tokens.access
    assert kept[0].scope == tokens.scope
    assert set(look_up(server, kept[0]).tenants) == {MATERNAL}


def test_a_token_that_ends_twice_in_one_look_up_is_renewed_twice(server: RunningServer) -> None:
    tokens, kept = signed_in(server, READER, MATERNAL), []
    server.control.expire_access_tokens()
    server.control.before("user_domains", {"action": "expire_access_tokens"})
    assert set(look_up(server, tokens, keep=kept.append).tenants) == {MATERNAL}
    assert len({each.refresh for each in (tokens, *kept)}) == len(kept) + 1 == 3


def test_deactivated_and_taken_back_end_the_sign_in(server: RunningServer) -> None:
    tokens = signed_in(server, READER, MATERNAL)
    server.control.deactivate_account(READER)
    with pytest.raises(SignInEnded):
        look_up(server, tokens)
    server.control.reactivate_account(READER)
    again = signed_in(server, READER, MATERNAL)
    server.control.expire_access_tokens()
    server.control.revoke_refresh_tokens()
    with pytest.raises(SignInEnded):
        look_up(server, again)


def test_a_wrong_secret_of_ours_ends_nobodys_sign_in(server: RunningServer) -> None:
    tokens = signed_in(server, READER, MATERNAL)
    server.control.expire_access_tokens()
    with pytest.raises(CredentialsInvalid) as refused:
        PEOPLE.look_up(replace(app(server), client_secret="wrong"), tokens, settings=SETTINGS)
    assert refused.value.details["oauth_error"] == "invalid_client"
    assert look_up(server, tokens).username == READER


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("identity|user_domains", {"status": 503}),
        ("oauth/token", {"status": 403, "body": "<html>blocked</html>"}),
        ("oauth/token", {"status": 500}),
        ("identity", {"status": 200, "body": "<html>log in</html>"}),
        ("identity", {"status": 200, "body": '{"username": "x"}'}),
        ("user_domains", {"status": 200, "body": '{"objects": []}'}),
        ("user_domains", {"status": 200, "body": '{"meta": {}, "objects": [{"name": "x"}]}'}),
        ("user_domains", {"status": 200, "body": '{"meta": {"total_count": 2}, "objects": [{"domain_name": "x"}]}'}),
        ("user_domains", {"kind": "truncated"}),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_trusted_says_nothing(server: RunningServer, pattern: str, fault: dict) -> None:
    tokens = signed_in(server, READER, MATERNAL)
    server.control.expire_access_tokens()
    server.control.fail(pattern, times=20, **fault)
    with pytest.raises(ApiError):
        look_up(server, tokens)
    server.control.clear_faults()


def test_a_list_without_an_end_is_refused(server: RunningServer) -> None:
    tokens = signed_in(server, READER, MATERNAL)
    server.control.set_switches(user_domains_paged=True, endless_paging=True)
    with pytest.raises(ResponseMalformed):
        look_up(server, tokens)


@pytest.mark.parametrize(
    ("username", "role"),
    [
        ("demo@example.org", Role("Admin", is_admin=True, sees_all=True, may_read=True, may_edit=True)),
        (DATA_OFFICER, Role("Data Officer", is_admin=False, sees_all=True, may_read=True, may_edit=True)),
        (READER, Role("Read Only", is_admin=False, sees_all=True, may_read=True, may_edit=False)),
        (SUPERVISOR, Role("Block Supervisor", is_admin=False, sees_all=False, may_read=True, may_edit=True)),
        (GUEST, None),
    ],
)
def test_roles_are_asked_of_the_project_space(server: RunningServer, username: str, role: Role | None) -> None:
    with provider_named("commcare").open_client(
        server.url, MATERNAL, ApiKeyCredential(server.username, server.api_key), settings=SETTINGS
    ) as client:
        subject = server.app._accounts.get(username).user_id
        assert PEOPLE.ask_role(client, subject, username) == role
        assert PEOPLE.ask_role(client, "somebody else's id", username) is None
        server.control.deny(MATERNAL, "web-user")
        assert PEOPLE.ask_role(client, subject, username) is None


def test_a_record_that_does_not_say_is_no_role_and_a_missing_right_is_none() -> None:
    assert PEOPLE.role_of({"role": "X"}) is None
    assert PEOPLE.role_of({"is_admin": "yes", "permissions": {}}) is None
    bare = PEOPLE.role_of({"is_admin": False, "permissions": {"view_reports": True}})
    assert bare is not None
    assert not bare.sees_all
    left = PEOPLE.role_of({"is_admin": True, "permissions": {}, "is_active_in_domain": False})
    assert left is not None
    assert (left.is_admin, left.may_read) == (False, False)
