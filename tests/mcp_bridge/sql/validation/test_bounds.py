"""No accepted statement keeps a backend busy after its answer, and other calls are served meanwhile."""

import asyncio
import contextlib
import time
from itertools import islice

import pytest

from mcp_bridge.sql import Executor, QueryFailed, QueryLimits, QueryRejected, ValidatedQuery
from tests.conftest import Tenant, tenants
from tests.mcp_bridge.sql.bombs import Bombs
from tests.mcp_bridge.sql.clinic import Clinic

# What is tried here in one run; the generator has no end.
TRIED = 70
SEED = 11
# A backend may live this long after its answer.
LEFT_ALIVE_S = 20.0


def _refused(clinic: Clinic, statement: str) -> str | None:
    try:
        clinic.validate(statement)
    except QueryRejected as error:
        return error.as_dict()["code"]  # type: ignore[no-any-return]
    return None


@pytest.mark.parametrize(
    "statement",
    [
        "select strpos(repeat('a', 20000000), 'b' || repeat('a', 60000))",
        "select array_fill(1, array[300000]) && array_fill(2, array[300000])",
        "select array(select g from generate_series(1, 300000) g) && array(select -g from generate_series(1, 300000) g)",
        "select a.x @> b.x from (select array_agg(visit_id) x from visits) a, (select array_agg(visit_id) x from visits) b",
        "select a ~~ a from json_table((select jsonb_agg(answers) from visits), '$' columns (a text path '$'))",
        "with a as (select array_agg(visit_id) x from visits, generate_series(1, 9000)) select a.x && b.x from a, a b",
        "select to_date(repeat('1', 1000000), repeat('Y', 1000000))",
        "select normalize(repeat(U&'\\0315\\0300', 400000))",
        "select position(repeat('a', 100000) || 'b' in repeat('a', 10000000))",
        "select btrim(string_agg(full_name, ''), string_agg(district, '')) from patients",
        "select translate(lpad('a', patient_id * 10000000), lpad('b', patient_id * 100000), '') from patients",
        "select replace(format('%1000000s', 'x'), format('%100000s', 'y'), 'z')",
        "select split_part(repeat('a', patient_id), full_name || repeat('b', patient_id), 1) from patients",
        "with recursive r(t) as (select 'a'::text union all select t || t from r) select strpos(t, reverse(t)) from r",
        "select plainto_tsquery(string_agg(full_name, ' ')) from patients",
        "select polygon(1000000, circle '((0,0),1)') && polygon(1000000, circle '((0,0),1)')",
        "select " + " || ".join(["md5((select string_agg(full_name, '') from patients))"] * 40),
    ],
)
def test_work_that_grows_as_a_product_is_refused(clinic: Clinic, statement: str) -> None:
    assert _refused(clinic, statement) in ("too_costly", "function_not_allowed", "type_not_allowed")


def test_the_generator_makes_both_what_runs_and_what_is_refused(clinic: Clinic) -> None:
    with clinic.admin.connect(autocommit=True) as conn:
        bombs = Bombs(conn, SEED)
    assert len(bombs.calls) > 200
    assert len(bombs.uses) > 100
    refused = [code for statement in islice(bombs.statements(), 400) if (code := _refused(clinic, statement))]
    assert 50 < refused.count("too_costly") < 300
    assert refused.count("too_costly") >= len(refused) - 20, refused


@pytest.mark.usefixtures("clinic")
def test_no_accepted_statement_keeps_a_backend_and_others_are_served(clinic: Clinic, connections) -> None:  # type: ignore[no-untyped-def]
    with clinic.admin.connect(autocommit=True) as conn:
        accepted = [s for s in islice(Bombs(conn, SEED).statements(), TRIED) if _refused(clinic, s) is None]
    assert len(accepted) > TRIED // 3
    with tenants(connections) as make:
        late, slowest_neighbour = asyncio.run(_tried(clinic, make(), accepted))
    assert late == []
    assert slowest_neighbour < 10, "another tenant's query waited"


async def _tried(clinic: Clinic, neighbour: Tenant, statements: list[str]) -> tuple[list[str], float]:
    executor = Executor(clinic.reader, (clinic.schema,), QueryLimits(timeout_s=1.0, wait_s=300))
    others = Executor(neighbour.ro, (neighbour.names.schema("marts"),), QueryLimits(timeout_s=15.0))
    ended = asyncio.Event()
    asking = asyncio.create_task(_ask_until(others, ended))
    late = await asyncio.gather(
        *(_left(executor, clinic, number, statement) for number, statement in enumerate(statements))
    )
    ended.set()
    return [statement for statement in late if statement], await asking


async def _ask_until(executor: Executor, ended: asyncio.Event) -> float:
    slowest = 0.0
    while not ended.is_set():
        started = time.monotonic()
        await executor.run(ValidatedQuery("select 1", frozenset()))
        slowest = max(slowest, time.monotonic() - started)
        await asyncio.sleep(0.3)
    return slowest


async def _left(executor: Executor, clinic: Clinic, number: int, statement: str) -> str | None:
    """The statement if its backend is there too long after the answer."""
    marked = f"{statement} -- bomb {number} "
    with contextlib.suppress(QueryFailed):
        await executor.run(clinic.validate(marked), principal=str(number))
    deadline = time.monotonic() + LEFT_ALIVE_S
    while await asyncio.to_thread(_alive, clinic, f"-- bomb {number} "):
        if time.monotonic() > deadline:
            return statement
        await asyncio.sleep(0.2)
    return None


def _alive(clinic: Clinic, mark: str) -> bool:
    with clinic.admin.connect(autocommit=True) as conn:
        found = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND strpos(query, %s) > 0",
            [clinic.reader.user, mark],
        ).fetchone()
    return found != (0,)
