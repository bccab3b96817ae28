from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from explorer.catalog import Catalog, SchemaAbsent, SchemaStateConflict, State, Tenant
from explorer.catalog.lifecycle.schemas import Passwords
from explorer.postgres.connections import Connections
from explorer.postgres.provisioning import new_prefix

MOVES = {
    ("provisioning", "active"),
    ("provisioning", "teardown"),
    ("active", "materializing"),
    ("active", "expired"),
    ("active", "teardown"),
    ("materializing", "materializing"),
    ("materializing", "active"),
    ("expired", "materializing"),
    ("expired", "active"),
    ("expired", "teardown"),
    ("teardown", "teardown"),
    ("teardown", "absent"),
}
step = st.tuples(
    st.frozensets(st.sampled_from(State), min_size=1),
    st.sampled_from([state for state in State if state is not State.PROVISIONING]),
    st.sampled_from(["run-1", "run-2", None]),
)


@hypothesis_settings(
    max_examples=25, stateful_step_count=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=st.lists(step, min_size=1, max_size=12))
def test_states_follow_the_machine(catalog: Catalog, make_tenant: Callable[..., Tenant], steps: list[tuple]) -> None:  # type: ignore[type-arg]
    tenant = make_tenant()
    state, holder = "active", None
    for expected, new, run_id in steps:
        allowed = state in expected and (state, new) in MOVES
        if new == "materializing":
            allowed = allowed and run_id is not None
        elif state == "materializing":
            allowed = allowed and run_id in (None, holder)
        if allowed:
            state, holder = str(new), run_id or holder
            catalog.schemas.transition(tenant, expected, new, run_id=run_id)
        else:
            with pytest.raises(SchemaStateConflict):
                catalog.schemas.transition(tenant, expected, new, run_id=run_id)
        found = catalog.schemas.get(tenant)
        assert (found.state, found.run_id) == (state, holder)


def test_of_two_that_swap_at_once_one_wins(catalog: Catalog, tenant: Tenant) -> None:
    def claim(run_id: str) -> str | None:
        try:
            catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id=run_id)
        except SchemaStateConflict:
            return None
        return run_id

    with ThreadPoolExecutor(6) as pool:
        won = [run_id for run_id in pool.map(claim, [f"run-{n}" for n in range(6)]) if run_id]
    assert won == [catalog.schemas.get(tenant).run_id]


def test_a_conflict_says_what_is_and_changes_nothing(catalog: Catalog, tenant: Tenant) -> None:
    before = catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="run-1")
    with pytest.raises(SchemaStateConflict) as refused:
        catalog.schemas.transition(tenant, {State.ACTIVE, State.EXPIRED}, State.TEARDOWN)
    assert refused.value.details == {"state": "materializing", "run_id": "run-1"}
    assert catalog.schemas.get(tenant) == before


def test_a_late_run_does_not_end_the_turn_of_the_next(catalog: Catalog, tenant: Tenant) -> None:
    catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="dead")
    catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.MATERIALIZING, run_id="next")
    with pytest.raises(SchemaStateConflict, match="next"):
        catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id="dead")
    assert catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id="next").state is State.ACTIVE


def test_errors_are_kept_until_the_next_change(catalog: Catalog, tenant: Tenant) -> None:
    failed = catalog.schemas.transition(tenant, {State.ACTIVE}, State.TEARDOWN, error="no\0 disk")
    assert failed.last_error == "no\ufffd disk"
    assert catalog.schemas.transition(tenant, {State.TEARDOWN}, State.TEARDOWN).last_error is None


def test_absent_schemas_have_no_logins_and_return_under_another_name(catalog: Catalog, tenant: Tenant) -> None:
    first = catalog.schemas.get(tenant)
    assert catalog.schemas.ro_login(tenant).user == f"{first.prefix}_ro"
    assert (first.raw, first.raw_staging, first.staging, first.marts) == tuple(
        f"{first.prefix}_{name}" for name in ("raw", "raw_staging", "staging", "marts")
    )
    catalog.schemas.transition(tenant, {State.ACTIVE}, State.TEARDOWN)
    catalog.schemas.transition(tenant, {State.TEARDOWN}, State.ABSENT)
    with pytest.raises(SchemaAbsent):
        catalog.schemas.rw_login(tenant)
    again = catalog.schemas.start(tenant, new_prefix(), Passwords(rw="rw-2", ro="ro-2"))
    assert (again.state, again.run_id) == (State.PROVISIONING, None)
    assert again.prefix != first.prefix
    login = catalog.schemas.ro_login(tenant)
    assert (login.user, login.password) == (f"{again.prefix}_ro", "ro-2")
    assert "ro-2" not in repr(login)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'gone'",
        "state = 'materializing', run_id = NULL",
        "state = 'absent'",
        "prefix = 'customer_name'",
        "passwords = NULL",
    ],
)
def test_the_database_refuses_what_cannot_be(
    catalog: Catalog, connections: Connections, tenant: Tenant, change: str
) -> None:
    with connections.service.connect() as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(f"UPDATE catalog.schemas SET {change} WHERE tenant_id = %s", [tenant.id])
