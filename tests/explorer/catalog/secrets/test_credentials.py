import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from explorer.catalog import (
    ApiKeyCredential,
    Catalog,
    Credential,
    CredentialInvalid,
    CredentialMissing,
    FieldsCredential,
    OAuthCredential,
    Tenant,
)
from explorer.postgres.connections import Connections

OAUTH = OAuthCredential(
    client_id="client",
    client_secret="client-secret",
    token_url="https://www.commcarehq.org/oauth/token/",
    access_token="access-1",
    refresh_token="refresh-1",
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
)


class TokenEndpoint:
    """Knows one refresh token at a time, like CommCare HQ: using an old one is refused."""

    def __init__(self) -> None:
        self.calls = 0
        self._valid = OAUTH.refresh_token

    def __call__(self, credential: OAuthCredential) -> OAuthCredential:
        self.calls += 1
        assert credential.refresh_token == self._valid
        self._valid = f"refresh-{self.calls + 1}"
        return replace(
            credential,
            access_token=f"access-{self.calls + 1}",
            refresh_token=self._valid,
            expires_at=OAUTH.expires_at and OAUTH.expires_at + timedelta(minutes=15),
        )


@pytest.fixture
def oauth_tenant(make_tenant: Callable[..., Tenant]) -> Tenant:
    return make_tenant(OAUTH)


@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), st.sampled_from([None, OAUTH.expires_at])
)
def test_credentials_come_back_as_they_were(
    catalog: Catalog, tenant: Tenant, text: str, expires_at: datetime | None
) -> None:
    for credential in (
        ApiKeyCredential("user@example.org", text),
        replace(OAUTH, client_secret=text, access_token=text, refresh_token=text, expires_at=expires_at),
        FieldsCredential("token", {"token": text, "fields": "x"}),
    ):
        catalog.credentials.save(tenant, credential)
        assert catalog.credentials.load(tenant) == credential


def test_credentials_do_not_show_their_secrets() -> None:
    shown = (
        repr(OAUTH)
        + repr(ApiKeyCredential("user", "api-key-1"))
        + repr(FieldsCredential("token", {"token": "field-1"}))
    )
    assert not [s for s in ("client-secret", "access-1", "refresh-1", "api-key-1", "field-1") if s in shown]


@pytest.mark.parametrize(
    "credential",
    [
        ApiKeyCredential("", "key"),
        ApiKeyCredential("user", " "),
        ApiKeyCredential("user", "key\r\nX-Header: 1"),
        FieldsCredential("token", {"token": " "}),
        FieldsCredential("token", {"token": "a\nb"}),
        replace(OAUTH, refresh_token=""),
        replace(OAUTH, token_url="https://evil.example/oauth/token/"),
        replace(OAUTH, token_url="https://www.commcarehq.org.evil.example/"),
        replace(OAUTH, token_url="https://www.commcarehq.org@evil.example/"),
        replace(OAUTH, token_url="http://www.commcarehq.org/oauth/token/"),
    ],
)
def test_a_credential_that_cannot_be_used_safely_is_refused(
    catalog: Catalog, oauth_tenant: Tenant, credential: Credential
) -> None:
    with pytest.raises(CredentialInvalid):
        catalog.credentials.save(oauth_tenant, credential)
    assert catalog.credentials.load(oauth_tenant) == OAUTH


def test_of_many_that_meet_a_stale_token_one_refreshes(catalog: Catalog, oauth_tenant: Tenant) -> None:
    endpoint, together = TokenEndpoint(), Barrier(6)

    def work(_: int) -> OAuthCredential:
        together.wait(timeout=30)
        return catalog.credentials.refresh(oauth_tenant, "access-1", endpoint)

    with ThreadPoolExecutor(6) as pool:
        fresh = list(pool.map(work, range(6)))
    assert endpoint.calls == 1
    assert {credential.access_token for credential in fresh} == {"access-2"}
    assert catalog.credentials.refresh(oauth_tenant, "access-2", endpoint).access_token == "access-3"
    assert catalog.credentials.load(oauth_tenant).refresh_token == "refresh-3"  # type: ignore[union-attr]


def test_a_refresh_that_fails_changes_nothing(catalog: Catalog, oauth_tenant: Tenant) -> None:
    def refuse(_: OAuthCredential) -> OAuthCredential:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        catalog.credentials.refresh(oauth_tenant, "access-1", refuse)
    assert catalog.credentials.load(oauth_tenant) == OAUTH


def test_a_refresh_survives_the_loss_of_the_connection(
    catalog: Catalog, connections: Connections, oauth_tenant: Tenant
) -> None:
    endpoint = TokenEndpoint()

    def refresh_while_the_server_hangs_up(credential: OAuthCredential) -> OAuthCredential:
        with connections.admin.connect(autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'explorer_service' AND state = 'idle in transaction'"
            )
        return endpoint(credential)

    catalog.credentials.refresh(oauth_tenant, "access-1", refresh_while_the_server_hangs_up)
    assert catalog.credentials.load(oauth_tenant).access_token == "access-2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        (ApiKeyCredential("user", "key"), "uses an API key, which is not refreshed. Correct the API key."),
        (
            FieldsCredential("token", {"token": "t"}),
            "uses a credential, which is not refreshed. Correct the credential.",
        ),
    ],
)
def test_what_is_no_grant_is_not_refreshed(catalog: Catalog, tenant: Tenant, credential: Credential, said: str) -> None:
    catalog.credentials.save(tenant, credential)
    with pytest.raises(CredentialMissing) as refused:
        catalog.credentials.refresh(tenant, "access-1", TokenEndpoint())
    assert said in str(refused.value)


def test_a_catalog_works_on_both_sides_of_a_fork(catalog: Catalog, tenant: Tenant) -> None:
    assert catalog.tenants.get(tenant.key) == tenant
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if catalog.tenants.get(tenant.key) == tenant else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert catalog.tenants.get(tenant.key) == tenant
