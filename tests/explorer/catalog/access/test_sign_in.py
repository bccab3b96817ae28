"""People, the programs that act for them, and their codes and tokens, as the catalog keeps them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from explorer.catalog import (
    Catalog,
    Identity,
    IdentityBlocked,
    Issued,
    Keyring,
    PrincipalInvalid,
    ProviderTokens,
    Refused,
    Scope,
    Tenant,
    UnknownClient,
    UnknownPerson,
    UnknownPrincipal,
)
from explorer.catalog.access.oauth_grants import MAX_REISSUES, s256
from explorer.postgres.connections import Connections

READ, QUERY, LAUNCH = Scope.METADATA_READ, Scope.QUERY_RUN, Scope.RUNS_LAUNCH
CALLBACK = "http://localhost:1234/callback"
VERIFIER = "v" * 43
TOKENS = ProviderTokens("upstream-access", "upstream-refresh", datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture
def person() -> Identity:
    return Identity("www", uuid4().hex, f"jane-{uuid4().hex[:8]}@example.org")


@pytest.fixture
def client_id(catalog: Catalog) -> str:
    return catalog.oauth_clients.register("A host", [CALLBACK]).client_id


def code_for(catalog: Catalog, principal_id: UUID, client_id: str, *scopes: Scope) -> str:
    return catalog.oauth_grants.issue_code(principal_id, client_id, scopes, CALLBACK, s256(VERIFIER))[1]


def pair_for(catalog: Catalog, person: Identity, tenant: Tenant, client_id: str) -> Issued:
    record = catalog.identities.sign_in(person, TOKENS, {tenant.key: frozenset({READ, QUERY})})
    code = code_for(catalog, record.principal_id, client_id, READ, LAUNCH)
    issued = catalog.oauth_grants.exchange(code, client_id, CALLBACK, VERIFIER)
    assert isinstance(issued, Issued)
    return issued


def later(connections: Connections, table: str, **changes: str) -> None:
    with connections.admin.connect(autocommit=True) as conn:
        for column, expression in changes.items():
            conn.execute(f"UPDATE catalog.{table} SET {column} = {expression}")


def test_a_sign_in_replaces_rights_and_tokens(
    catalog: Catalog, make_tenant: Callable[..., Tenant], person: Identity
) -> None:
    one, two = make_tenant(), make_tenant()
    first = catalog.identities.sign_in(person, TOKENS, {one.key: frozenset({READ}), "no:such": frozenset({READ})})
    assert first.name == f"person:www:{person.username}"
    assert first.rights == {one.key: frozenset({READ})}
    assert first.tokens == TOKENS
    renamed = Identity(person.provider, person.subject, "renamed")
    second = catalog.identities.sign_in(renamed, None, {two.key: frozenset({QUERY})})
    assert (second.principal_id, second.name) == (first.principal_id, first.name)
    assert (second.identity, second.tokens, second.rights) == (renamed, None, {two.key: frozenset({QUERY})})
    assert catalog.identities.by_subject("www", person.subject) is not None
    assert catalog.identities.by_subject("eu", person.subject) is None


def test_a_username_given_to_somebody_else_is_another_name_in_the_audit(catalog: Catalog, person: Identity) -> None:
    first = catalog.identities.sign_in(person, None, {})
    second = catalog.identities.sign_in(Identity("www", "another", person.username), None, {})
    assert second.name != first.name
    assert second.principal_id != first.principal_id


def test_concurrent_first_sign_ins_make_one_person(catalog: Catalog, person: Identity) -> None:
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda _: catalog.identities.sign_in(person, TOKENS, {}), range(4)))
    assert len({record.principal_id for record in records}) == 1


def test_names_of_people_are_not_for_tokens(catalog: Catalog, tenant: Tenant, person: Identity) -> None:
    with pytest.raises(PrincipalInvalid):
        catalog.principals.create_token("person:www:jane", [tenant])
    name = catalog.identities.sign_in(person, None, {}).name
    with pytest.raises(UnknownPrincipal):
        catalog.principals.revoke(name)


def test_one_process_checks_at_a_time(catalog: Catalog, tenant: Tenant, person: Identity) -> None:
    id_ = catalog.identities.sign_in(person, TOKENS, {tenant.key: frozenset({READ})}).principal_id
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: catalog.identities.claim_check(id_, 60), range(4))) == [
            False,
            False,
            False,
            True,
        ]
    catalog.identities.release_check(id_)
    assert catalog.identities.claim_check(id_, 60)
    renewed = ProviderTokens("a2", "r2", None)
    catalog.identities.save_tokens(id_, renewed)
    catalog.identities.save_check(id_, {})
    found = catalog.identities.find(id_)
    assert found is not None
    assert (found.rights, found.tokens) == ({}, renewed)
    assert found.checked_age_s < 60
    assert catalog.identities.claim_check(id_, 60)


def test_secrets_are_not_stored_in_the_clear(
    catalog: Catalog, connections: Connections, tenant: Tenant, person: Identity, client_id: str
) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    request = catalog.oauth_requests.begin(client_id, CALLBACK, "state", [READ], s256(VERIFIER), "browser-secret")
    assert catalog.oauth_requests.leave_for(request, "browser-secret", "www", "upstream-state", "upstream-verifier")
    with connections.admin.connect() as conn:
        rows = [
            text
            for table in (
                "identities",
                "oauth_codes",
                "oauth_grants",
                "oauth_requests",
                "oauth_tokens",
                "oauth_clients",
            )
            for (text,) in conn.execute(f"SELECT t::text FROM catalog.{table} t").fetchall()
        ]
    secrets = (pair.access, pair.refresh, "upstream-access", "upstream-refresh", "browser-secret", "upstream-state")
    for secret in (*secrets, "upstream-verifier"):
        assert not [row for row in rows if secret in row or secret.encode().hex() in row]


def test_rotated_keys_encrypt_what_people_brought(
    catalog: Catalog, connections: Connections, person: Identity, client_id: str
) -> None:
    principal_id = catalog.identities.sign_in(person, TOKENS, {}).principal_id
    request = catalog.oauth_requests.begin(client_id, CALLBACK, None, [READ], s256(VERIFIER), "browser")
    catalog.oauth_requests.leave_for(request, "browser", "www", uuid4().hex, "secret")
    catalog.rotate_keys()
    path = catalog.keyring.path
    assert path is not None
    with Catalog(connections.service, Keyring(path.read_text().split()[0])) as newest_key_only:
        found = newest_key_only.identities.find(principal_id)
        under_way = newest_key_only.oauth_requests.get(request, "browser")
    assert found is not None
    assert found.tokens == TOKENS
    assert under_way is not None
    assert under_way.secret == "secret"


def test_an_access_token_stands_for_rights_and_what_was_allowed(
    catalog: Catalog, tenant: Tenant, person: Identity, client_id: str
) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    found = catalog.oauth_grants.verify(pair.access)
    assert found is not None
    assert found.principal.grants == {tenant.key: frozenset({READ, QUERY})}
    assert (found.scopes, found.client_id, found.provider) == (frozenset({READ, LAUNCH}), client_id, "www")
    assert catalog.oauth_grants.verify(pair.refresh) is None
    assert catalog.principals.verify(pair.access) is None
    assert catalog.oauth_grants.verify(pair.access + "A") is None


@pytest.mark.parametrize(
    ("client", "uri", "verifier"),
    [("another", CALLBACK, VERIFIER), (None, CALLBACK + "/x", VERIFIER), (None, CALLBACK, "w" * 43)],
)
def test_a_wrong_attempt_uses_the_code_up(
    catalog: Catalog, person: Identity, client_id: str, client: str | None, uri: str, verifier: str
) -> None:
    id_ = catalog.identities.sign_in(person, TOKENS, {}).principal_id
    code = code_for(catalog, id_, client_id, READ)
    assert catalog.oauth_grants.exchange(code, client or client_id, uri, verifier) == Refused("mismatch")
    assert isinstance(catalog.oauth_grants.exchange(code, client_id, CALLBACK, VERIFIER), Refused)


def test_a_replayed_code_ends_its_grant(catalog: Catalog, person: Identity, client_id: str) -> None:
    id_ = catalog.identities.sign_in(person, TOKENS, {}).principal_id
    code = code_for(catalog, id_, client_id, READ)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: catalog.oauth_grants.exchange(code, client_id, CALLBACK, VERIFIER), range(2)))
    (issued,) = [result for result in results if isinstance(result, Issued)]
    (refused,) = [result for result in results if isinstance(result, Refused)]
    assert refused.reason == "reused"
    assert refused.grant is not None
    assert refused.grant.id == issued.grant.id
    assert catalog.oauth_grants.verify(issued.access) is None
    assert catalog.oauth_grants.refresh(issued.refresh, client_id) == Refused("unknown")


def test_a_code_ends_after_a_minute_and_its_grant_with_it(
    catalog: Catalog, connections: Connections, person: Identity, client_id: str
) -> None:
    id_ = catalog.identities.sign_in(person, TOKENS, {}).principal_id
    code = code_for(catalog, id_, client_id, READ)
    later(connections, "oauth_codes", expires_at="now()")
    assert catalog.oauth_grants.exchange(code, client_id, CALLBACK, VERIFIER) == Refused("expired")


def test_refreshes_at_the_same_time_all_get_pairs_that_work(
    catalog: Catalog, tenant: Tenant, person: Identity, client_id: str
) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    with ThreadPoolExecutor(4) as pool:
        pairs = list(pool.map(lambda _: catalog.oauth_grants.refresh(pair.refresh, client_id), range(4)))
    for renewed in pairs:
        assert isinstance(renewed, Issued)
        assert catalog.oauth_grants.verify(renewed.access) is not None
        assert isinstance(catalog.oauth_grants.refresh(renewed.refresh, client_id), Issued)
    assert catalog.oauth_grants.verify(pair.access) is not None, "hosts share access tokens until they end"


def test_a_refresh_token_that_comes_back_later_ends_the_grant(
    catalog: Catalog, connections: Connections, tenant: Tenant, person: Identity, client_id: str
) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    renewed = catalog.oauth_grants.refresh(pair.refresh, client_id)
    assert isinstance(renewed, Issued)
    later(connections, "oauth_tokens", rotated_at="rotated_at - interval '3 minutes'")
    again = catalog.oauth_grants.refresh(pair.refresh, client_id)
    assert isinstance(again, Refused)
    assert again.reason == "reused"
    for token in (pair.access, renewed.access):
        assert catalog.oauth_grants.verify(token) is None
    assert catalog.oauth_grants.refresh(renewed.refresh, client_id) == Refused("unknown")


def test_the_grace_is_bounded(catalog: Catalog, tenant: Tenant, person: Identity, client_id: str) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    for _ in range(1 + MAX_REISSUES):
        assert isinstance(catalog.oauth_grants.refresh(pair.refresh, client_id), Issued)
    refused = catalog.oauth_grants.refresh(pair.refresh, client_id)
    assert isinstance(refused, Refused)
    assert refused.reason == "reused"


def test_a_refresh_is_the_clients_own_and_never_more(
    catalog: Catalog, connections: Connections, tenant: Tenant, person: Identity, client_id: str
) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    assert catalog.oauth_grants.refresh(pair.refresh, "another") == Refused("mismatch")
    assert catalog.oauth_grants.refresh(pair.refresh, client_id, frozenset({QUERY})) == Refused("scope")
    assert catalog.oauth_grants.refresh(pair.access, client_id) == Refused("unknown")
    narrow = catalog.oauth_grants.refresh(pair.refresh, client_id, frozenset({READ}))
    assert isinstance(narrow, Issued)
    assert narrow.scopes == {READ}
    wide = catalog.oauth_grants.refresh(narrow.refresh, client_id)
    assert isinstance(wide, Issued)
    assert wide.scopes == {READ, LAUNCH}
    later(connections, "oauth_tokens", expires_at="now()")
    assert catalog.oauth_grants.refresh(wide.refresh, client_id) == Refused("expired")
    assert catalog.oauth_grants.verify(wide.access) is None


def test_clients_give_back_their_own(catalog: Catalog, tenant: Tenant, person: Identity, client_id: str) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    assert catalog.oauth_grants.revoke(pair.refresh, "another") is None
    assert catalog.oauth_grants.verify(pair.access) is not None
    assert catalog.oauth_grants.revoke(pair.access, client_id) is None
    assert catalog.oauth_grants.verify(pair.access) is None
    ended = catalog.oauth_grants.revoke(pair.refresh, client_id)
    assert ended is not None
    assert ended.id == pair.grant.id
    assert catalog.oauth_grants.refresh(pair.refresh, client_id) == Refused("unknown")


def test_the_operator_ends_and_blocks_people(
    catalog: Catalog, tenant: Tenant, person: Identity, client_id: str
) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    name = pair.grant.name
    (shown,) = [each for each in catalog.identities.list() if each.name == name]
    assert (shown.clients, shown.rights) == (("A host",), {tenant.key: frozenset({READ, QUERY})})
    assert catalog.identities.revoke(name) == 1
    assert catalog.oauth_grants.verify(pair.access) is None
    found = catalog.identities.find(pair.grant.principal_id)
    assert found is not None
    assert found.tokens is None
    assert not found.rights
    again = pair_for(catalog, person, tenant, client_id)
    catalog.identities.revoke(name, block=True)
    assert catalog.oauth_grants.verify(again.access) is None
    with pytest.raises(IdentityBlocked):
        catalog.identities.sign_in(person, TOKENS, {})
    catalog.identities.allow(name)
    assert catalog.identities.sign_in(person, TOKENS, {}).name == name
    with pytest.raises(UnknownPerson):
        catalog.identities.revoke("person:www:nobody")


def test_the_operator_blocks_clients(catalog: Catalog, tenant: Tenant, person: Identity, client_id: str) -> None:
    pair = pair_for(catalog, person, tenant, client_id)
    assert catalog.oauth_clients.block(client_id) == 1
    assert catalog.oauth_grants.verify(pair.access) is None
    assert isinstance(catalog.oauth_grants.refresh(pair.refresh, client_id), Refused)
    blocked = catalog.oauth_clients.get(client_id)
    assert blocked is not None
    assert blocked.is_blocked
    catalog.oauth_clients.keep(client_id, "registered", "A host", [CALLBACK], None)
    blocked = catalog.oauth_clients.get(client_id)
    assert blocked is not None
    assert blocked.is_blocked
    catalog.oauth_clients.unblock(client_id)
    unblocked = catalog.oauth_clients.get(client_id)
    assert unblocked is not None
    assert not unblocked.is_blocked
    with pytest.raises(UnknownClient):
        catalog.oauth_clients.block("nobody")


def test_unused_registrations_are_forgotten(
    catalog: Catalog, connections: Connections, tenant: Tenant, person: Identity
) -> None:
    unused, used, idle = (catalog.oauth_clients.register("A host", [CALLBACK]).client_id for _ in range(3))
    published = catalog.oauth_clients.keep("https://x.example/c.json", "document", "P", [CALLBACK], 60)
    assert published.stale_s == 0
    pair_for(catalog, person, tenant, used)
    with connections.admin.connect(autocommit=True) as conn:
        conn.execute("UPDATE catalog.oauth_clients SET created_at = now() - interval '2 days'")
        conn.execute(
            "UPDATE catalog.oauth_clients SET last_used_at = now() - interval '91 days' WHERE client_id = %s", [idle]
        )
    catalog.oauth_clients.forget_unused()
    pinned = catalog.oauth_clients.keep("https://y.example/c.json", "pinned", "P", [CALLBACK], None)
    kept = {
        name for name in (unused, used, idle, published.client_id, pinned.client_id) if catalog.oauth_clients.get(name)
    }
    assert kept == {used, pinned.client_id}


def test_a_sign_in_belongs_to_one_browser_and_each_step_is_taken_once(catalog: Catalog, client_id: str) -> None:
    requests, state = catalog.oauth_requests, uuid4().hex
    id_ = requests.begin(client_id, CALLBACK, "its state", [READ, QUERY], s256(VERIFIER), "browser")
    found = requests.get(id_, "browser")
    assert found is not None
    assert (found.scopes, found.state, found.provider) == (frozenset({READ, QUERY}), "its state", None)
    assert requests.get(id_, "another browser") is None
    assert not requests.leave_for(id_, "another browser", "www", state, "secret")
    assert requests.leave_for(id_, "browser", "www", state, "secret")
    assert requests.return_from("www", state, "another browser") is None
    assert requests.return_from("eu", state, "browser") is None
    returned = requests.return_from("www", state, "browser")
    assert returned is not None
    assert returned.secret == "secret"
    assert requests.return_from("www", state, "browser") is None
    assert requests.offer(id_, "browser", "tokens", {"username": "jane"})
    with ThreadPoolExecutor(3) as pool:
        finished = [each for each in pool.map(lambda _: requests.finish(id_, "browser"), range(3)) if each]
    assert [(each.secret, each.offered) for each in finished] == [("tokens", {"username": "jane"})]
    assert requests.get(id_, "browser") is None


def test_a_sign_in_ends_after_ten_minutes(catalog: Catalog, connections: Connections, client_id: str) -> None:
    id_ = catalog.oauth_requests.begin(client_id, CALLBACK, None, [READ], s256(VERIFIER), "browser")
    later(connections, "oauth_requests", expires_at="now()")
    assert catalog.oauth_requests.get(id_, "browser") is None
    assert catalog.oauth_requests.finish(id_, "browser") is None


def test_rates_are_counted_for_all_processes_together(catalog: Catalog, connections: Connections) -> None:
    key = f"test {uuid4()}"
    with ThreadPoolExecutor(4) as pool:
        waits = sorted(pool.map(lambda _: catalog.rates.take(key, 5, 60), range(8)))
    assert waits[:5] == [0.0] * 5
    assert all(0 < wait <= 60 for wait in waits[5:])
    later(connections, "rates", window_ends="now()")
    assert catalog.rates.take(key, 5, 60) == 0.0
    later(connections, "rates", window_ends="now() - interval '2 days'")
    catalog.rates.take(f"another {key}", 5, 60)
    with connections.admin.connect() as conn:
        assert conn.execute("SELECT count(*) FROM catalog.rates WHERE key = %s", [key]).fetchone() == (0,)
