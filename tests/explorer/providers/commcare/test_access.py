"""The access check before a tenant is added: who passes, and the error code for everybody else."""

from collections.abc import Iterator

import pytest

from demo_commcare import FOREIGN, MATERNAL, NO_SUBSCRIPTION, RunningServer, serve_in_thread
from demo_commcare.sign_in.accounts import SUPERVISOR
from explorer.catalog.secrets.credentials import ApiKeyCredential, OAuthCredential
from explorer.core.settings import Settings
from explorer.http.errors import ApiError
from explorer.providers.base import Access
from explorer.providers.commcare.errors import PartOfDomain
from explorer.providers.commcare.people.access import look_up_person, verify_access

SETTINGS = Settings(_env_file=None, requests_per_second=1000, http_max_attempts=2, http_timeout_s=5)


@pytest.fixture
def demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=30) as server:
        yield server


def check(demo: RunningServer, domain: str = MATERNAL, api_key: str | None = None, server: str | None = None) -> Access:
    credential = ApiKeyCredential(demo.username, api_key or demo.api_key)
    return verify_access(server or demo.url, domain, credential, settings=SETTINGS)


@pytest.mark.parametrize("paged", [False, True])
def test_a_member_may(demo: RunningServer, paged: bool) -> None:
    demo.control.set_switches(user_domains_paged=paged)
    access = check(demo)
    assert access.username == demo.username
    assert access.title not in ("", MATERNAL)


def test_a_person_is_named_with_the_project_spaces_that_are_listed(demo: RunningServer) -> None:
    credential = ApiKeyCredential(demo.username, demo.api_key)
    person = look_up_person(demo.url, credential, settings=SETTINGS)
    assert person.username == demo.username
    assert MATERNAL in person.tenants
    assert FOREIGN not in person.tenants
    assert not person.is_complete
    with pytest.raises(ApiError) as refused:
        look_up_person(demo.url, ApiKeyCredential(demo.username, "wrong"), settings=SETTINGS)
    assert refused.value.code == "commcare_credentials_invalid"


def test_an_oauth_grant_may(demo: RunningServer) -> None:
    client_id, secret = demo.control.oauth_client
    credential = OAuthCredential(client_id, secret, f"{demo.url}/oauth/token/", "", demo.control.issue_refresh_token())
    assert verify_access(demo.url, MATERNAL, credential, settings=SETTINGS).username == demo.username


def test_a_key_that_sees_some_locations_only_makes_no_tenant(demo: RunningServer) -> None:
    """The server tells it only to who may read the list of web users."""
    role = (MATERNAL, SUPERVISOR, "Block Supervisor")
    credential = ApiKeyCredential(SUPERVISOR, demo.control.issue_api_key(SUPERVISOR))
    demo.control.set_role(*role, permissions={"access_api": True})
    unknown = verify_access(demo.url, MATERNAL, credential, settings=SETTINGS)
    assert (unknown.username, unknown.sees_all) == (SUPERVISOR, False)
    demo.control.set_role(*role, permissions={"edit_web_users": True})
    with pytest.raises(PartOfDomain, match="some locations only") as refused:
        verify_access(demo.url, MATERNAL, credential, settings=SETTINGS)
    assert refused.value.code == "commcare_part_of_domain"
    demo.control.set_role(*role, permissions={"access_all_locations": True})
    assert verify_access(demo.url, MATERNAL, credential, settings=SETTINGS).sees_all


def code_of(demo: RunningServer, **given: str) -> str:
    with pytest.raises(ApiError) as caught:
        check(demo, **given)
    assert caught.value.message
    assert caught.value.next_step
    assert demo.api_key not in str(caught.value.as_dict())
    return caught.value.code


def test_each_refusal_has_its_name(demo: RunningServer) -> None:
    assert code_of(demo, api_key="wrong") == "commcare_credentials_invalid"
    assert code_of(demo, domain="no-such-project") == "commcare_domain_unknown"
    assert code_of(demo, domain=FOREIGN) == "commcare_domain_unknown"
    assert code_of(demo, domain=NO_SUBSCRIPTION) == "commcare_no_subscription"
    assert code_of(demo, server="http://127.0.0.1:9") == "commcare_unreachable"
    assert code_of(demo, server="https://user:pw@hq.example.org") == "commcare_not_commcare"
    demo.control.cut_off(MATERNAL)
    assert code_of(demo) == "commcare_cut_off"
    demo.control.restore(MATERNAL)
    demo.control.deny(MATERNAL, "lookup_table")
    assert code_of(demo) == "commcare_permission_missing"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, "<html>hello</html>", "commcare_not_commcare"),
        (200, "[]", "commcare_not_commcare"),
        (200, "{}", "commcare_not_commcare"),
        (404, "not here", "commcare_not_commcare"),
        (301, "", "commcare_not_commcare"),
        (500, None, "commcare_server_error"),
    ],
)
def test_servers_that_are_no_commcare(demo: RunningServer, status: int, body: str | None, code: str) -> None:
    demo.control.fail("identity", status=status, body=body, times=5, headers={"Location": "https://other.example/"})
    assert code_of(demo) == code
