"""People of the demo server at the seam: rights by membership and role, as fresh as what is served demands."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from demo_commcare import MATERNAL, NUTRITION
from demo_commcare.sign_in.accounts import DATA_OFFICER, GUEST, READER, SUPERVISOR
from explorer.catalog import Scope, SignedInPrincipal
from explorer.contract.bookkeeping import loads
from explorer.core.errors import SettingsInvalid
from mcp_bridge.sign_in.identity import IdentityEnded, IdentityProvider, ProviderUnavailable, SignInFailed
from mcp_bridge.sign_in.providers.membership import Ages, Membership
from tests.demo_browser import CALLBACK
from tests.mcp_bridge.sign_in.clinic import KEY, Clinic

READING = {Scope.METADATA_READ, Scope.QUERY_RUN}
EDITING = READING | {Scope.RUNS_LAUNCH, Scope.RUNS_CANCEL}


def check(membership: Membership, person: SignedInPrincipal) -> SignedInPrincipal | None:
    """What the verifier would get, once all background work is done."""

    async def done() -> SignedInPrincipal | None:
        try:
            return await membership.current(person)
        finally:
            if tasks := list(membership._running.values()):
                await asyncio.wait(tasks)

    return asyncio.run(done())


def membership(clinic: Clinic, people: IdentityProvider, **ages: float) -> Membership:
    return Membership({"demo": people}, lambda: clinic.catalog, Ages(**ages))


@pytest.mark.parametrize(
    ("username", "rights"),
    [("demo@example.org", set(Scope)), (DATA_OFFICER, EDITING), (READER, READING), (SUPERVISOR, None), (GUEST, None)],
)
def test_the_role_decides(clinic: Clinic, username: str, rights: set[Scope] | None) -> None:
    found = clinic.memberships(clinic.people(), username, MATERNAL)
    assert dict(found.rights) == ({} if rights is None else {KEY: rights})


def test_who_sees_a_part_only_is_told_why_nothing_is_open(clinic: Clinic) -> None:
    (missing,) = clinic.memberships(clinic.people(), SUPERVISOR, MATERNAL).unavailable
    assert "limited to some locations" in missing.reason
    assert "Block Supervisor" in missing.reason
    assert missing.action is None


def test_a_space_that_is_no_tenant_is_named_with_who_can_help(clinic: Clinic) -> None:
    found = clinic.memberships(clinic.people(), DATA_OFFICER, MATERNAL, NUTRITION)
    assert set(found.rights) == {KEY}
    (missing,) = found.unavailable
    assert (missing.title, missing.action) == ("Démo : Nutrition de l'enfant", "ask")
    (missing,) = clinic.memberships(clinic.people("self_service: off"), DATA_OFFICER, NUTRITION).unavailable
    assert missing.action is None
    assert "operator" in missing.reason


def test_a_tenant_that_was_not_picked_is_neither_given_nor_named(clinic: Clinic) -> None:
    found = clinic.memberships(clinic.people(), DATA_OFFICER, NUTRITION)
    assert dict(found.rights) == {}
    assert len(found.unavailable) == 1


def test_an_unknown_role_gives_nothing_unless_the_operator_says_so(clinic: Clinic) -> None:
    clinic.server.control.deny(MATERNAL, "web-user")
    refused = clinic.memberships(clinic.people(), READER, MATERNAL)
    assert dict(refused.rights) == {}
    assert "not known" in refused.unavailable[0].reason
    assert dict(clinic.memberships(clinic.people("members_without_role: read"), READER, MATERNAL).rights) == {
        KEY: READING
    }


def test_roles_of_the_last_sync_are_used_without_a_request(clinic: Clinic) -> None:
    tenant = clinic.catalog.tenants.get(KEY)
    schema = clinic.catalog.schemas.get(tenant)
    login = clinic.catalog.schemas.rw_login(tenant)
    # Another one, which does not remember what was asked for it.
    subject, people = clinic.signs_in(clinic.people(), READER, MATERNAL).identity.subject, clinic.people()
    record = (
        '{"is_admin": false, "role": "From the sync", "permissions": {"access_all_locations": true, "edit_data": true}}'
    )
    with clinic.services.platform.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        loads.read(connection, schema.raw)
        connection.execute(
            f"create table {schema.raw}.raw_web_users (web_user_id text, record jsonb, _deleted_at timestamptz)"
        )
        connection.execute(f"insert into {schema.raw}.raw_web_users values (%s, %s::jsonb, null)", [subject, record])
        state = loads.LoadState(None, 1, 0, None)
        loads.write(connection, schema.raw, "web_users", "raw_web_users", state, "run-1")
        try:
            clinic.server.control.deny(MATERNAL, "web-user")
            assert dict(clinic.memberships(people, READER, MATERNAL).rights) == {KEY: EDITING}
            # Who is not in it came since; and what is old is not believed.
            assert dict(clinic.memberships(people, DATA_OFFICER, MATERNAL).rights) == {}
            connection.execute(f"update {schema.raw}.{loads.LOADS} set updated_at = now() - interval '25 hours'")
            assert dict(clinic.memberships(people, READER, MATERNAL).rights) == {}
        finally:
            connection.execute(f"drop table {schema.raw}.raw_web_users")
            connection.execute(f"delete from {schema.raw}.{loads.LOADS}")


def test_a_code_of_another_browser_is_refused_and_a_server_that_is_down_says_nothing(clinic: Clinic) -> None:
    people = clinic.people()
    with pytest.raises(SignInFailed):
        asyncio.run(people.sign_in(code="none", verifier="v" * 43, nonce="n", redirect_uri=CALLBACK))
    clinic.server.control.fail("oauth/token", times=9, status=503)
    with pytest.raises(ProviderUnavailable):
        asyncio.run(people.sign_in(code="none", verifier="v" * 43, nonce="n", redirect_uri=CALLBACK))


def test_without_kept_tokens_the_sign_in_itself_tells_and_nobody_asks_again(clinic: Clinic) -> None:
    people = clinic.people(keep_tokens="false")
    signed_in = clinic.signs_in(people, READER, MATERNAL)
    assert signed_in.tokens is None
    assert signed_in.memberships is not None
    person = clinic.connected(people, READER, MATERNAL)
    kept = membership(clinic, people)
    assert check(kept, clinic.aged(person, 11 * 3600)) is not None
    assert check(kept, clinic.aged(person, 13 * 3600)) is None


def test_young_rights_are_served_without_a_question(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.connected(people, READER, MATERNAL)
    before = len(clinic.server.control.requests)
    assert check(membership(clinic, people), replace(person, checked_age_s=299)) is not None
    assert len(clinic.server.control.requests) == before


def test_a_removed_member_loses_the_tenant_before_the_next_old_call_is_served(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.connected(people, DATA_OFFICER, MATERNAL)
    clinic.server.control.remove_member(MATERNAL, DATA_OFFICER)
    # In the background first: this call is still served as before.
    served = check(membership(clinic, people), clinic.aged(person, 400))
    assert served is not None
    assert KEY in served.principal.grants
    record = clinic.catalog.identities.find(person.principal.id)
    assert record is not None
    assert record.rights == {}
    assert "membership_lost" in clinic.actions(person)
    # And at once where the rights are too old.
    clinic.server.control.add_member(MATERNAL, DATA_OFFICER)
    again = check(membership(clinic, people), clinic.aged(person, 700))
    assert again is not None
    assert again.principal.grants == {KEY: EDITING}
    assert again.checked_age_s < 60


def test_somebody_deactivated_loses_the_session(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.connected(people, READER, MATERNAL)
    clinic.server.control.deactivate_account(READER)
    assert check(membership(clinic, people), clinic.aged(person, 700)) is None
    record = clinic.catalog.identities.find(person.principal.id)
    assert record is not None
    assert (record.tokens, record.rights) == (None, {})
    assert "grant_revoked" in clinic.actions(person)


def test_a_server_that_does_not_answer_takes_nothing_away_for_an_hour(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.connected(people, READER, MATERNAL)
    clinic.server.control.fail("identity|user_domains", times=99, status=500)
    kept = membership(clinic, people)
    served = check(kept, clinic.aged(person, 3000))
    assert served is not None
    assert served.principal.grants == {KEY: READING}
    with pytest.raises(ProviderUnavailable):
        check(kept, clinic.aged(person, 3700))


def test_a_call_does_not_wait_for_a_server_that_hangs(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.connected(people, READER, MATERNAL)
    clinic.server.control.fail("identity", kind="hang", seconds=3, times=1)
    kept = membership(clinic, people, inline_s=0.2)

    async def served_first() -> tuple[bool, SignedInPrincipal | None]:
        served = await kept.current(clinic.aged(person, 700))
        still = bool(kept._running)
        await asyncio.wait(list(kept._running.values()))
        return still, served

    still, served = asyncio.run(served_first())
    assert still
    assert served is not None
    # The answer that came late counts.
    record = clinic.catalog.identities.find(person.principal.id)
    assert record is not None
    assert record.checked_age_s < 60


def test_renewed_tokens_survive_a_check_that_fails(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.connected(people, READER, MATERNAL)
    clinic.server.control.expire_access_tokens()
    clinic.server.control.fail("user_domains", times=9, status=500)
    assert check(membership(clinic, people), clinic.aged(person, 700)) is not None
    clinic.server.control.clear_faults()
    renewed = check(membership(clinic, people), clinic.aged(person, 700))
    assert renewed is not None
    assert renewed.checked_age_s < 60


def test_of_many_calls_and_replicas_one_asks(clinic: Clinic) -> None:
    people = clinic.people()
    person = clinic.aged(clinic.connected(people, READER, MATERNAL), 700)
    clinic.server.control.expire_access_tokens()
    before = len([seen for seen in clinic.server.control.requests if seen.path == "/oauth/token/"])

    async def all_at_once() -> list[Any]:
        replicas = [membership(clinic, people) for _ in range(3)]
        return await asyncio.gather(*(replica.current(person) for replica in replicas for _ in range(4)))

    found = asyncio.run(all_at_once())
    assert all(each is not None and each.checked_age_s < 60 for each in found)
    assert len([seen for seen in clinic.server.control.requests if seen.path == "/oauth/token/"]) == before + 1


def test_a_way_to_sign_in_that_is_gone_ends_what_it_gave(clinic: Clinic) -> None:
    person = clinic.connected(clinic.people(), READER, MATERNAL)
    assert check(Membership({}, lambda: clinic.catalog), clinic.aged(person, 700)) is None


def test_tokens_of_somebody_else_are_no_persons(clinic: Clinic) -> None:
    people = clinic.people()
    reader, officer = clinic.signs_in(people, READER, MATERNAL), clinic.signs_in(people, DATA_OFFICER, MATERNAL)
    with pytest.raises(IdentityEnded):
        asyncio.run(people.memberships(reader.identity, officer.tokens, lambda _: None))


@pytest.mark.parametrize(
    ("of", "said"), [({"provider": "nobody"}, "no provider"), ({"url": "http://hq.example"}, "not encrypted")]
)
def test_a_server_that_cannot_be_used_stops_the_start(clinic: Clinic, of: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        clinic.people(**of)
