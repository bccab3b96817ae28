"""Queries while a run rebuilds tables and applies changes: the run that an answer names for a table is that of the rows in it."""

import threading
from typing import Any

import pytest
from mcp.client import Client

from explorer.contract.schemas import TenantSchemas
from tests.conftest import Tenant
from tests.explorer.tables.engine.shop import Shop
from tests.mcp_bridge.stage import Stage, envelope, on_http

KEY = "demo:rebuilt"
SQL = """select max(i.record ->> 'note'), count(distinct i.record ->> 'note'), max(i.owner_name), max(o.name)
  from items i join owners o using (owner_id)"""


@pytest.fixture
def shop(stage: Stage) -> Shop:
    """A tenant whose tables are built by the engine, under two runs: one for what its rows say, one for its owners' names."""
    schemas = TenantSchemas(stage.catalog.schemas.get(stage.tenants[KEY]).prefix)
    rw, ro = (read(stage.tenants[KEY]) for read in (stage.catalog.schemas.rw_login, stage.catalog.schemas.ro_login))
    logins = (stage.connections.tenant(login.user, login.password) for login in (rw, ro))
    made = Shop(Tenant(schemas.prefix, schemas, *logins))
    made.make_raw()
    for number in range(6):
        made.put_item(f"i{number}", owner=f"o{number % 2}", note="run 0")
    return made


def change(shop: Shop, number: int) -> None:
    """Another name of all owners, or another note in all items; every fourth run builds all tables as a whole."""
    run = f"run {number}"
    if number % 3 == 0:
        for owner in ("o0", "o1"):
            shop.put("raw_owners", owner, {"name": run})
    else:
        note = "record = jsonb_set(record, '{note}', to_jsonb(%s::text))"
        shop.execute(f"update raw.raw_items set _loaded_at = clock_timestamp(), {note}", run)
    shop.update(run_id=run, by_need=number % 4 != 3)


def test_the_run_of_a_table_is_that_of_its_rows(stage: Stage, bridge_url: str, shop: Shop) -> None:
    """Two tables, of different runs as a rule; each changes once in a run."""
    true: set[tuple[Any, ...]] = set()
    ended = threading.Event()

    def note_what_is_true() -> None:
        [[note, _, owner_name, name]], builds = shop.read(SQL), shop.builds()
        true.update({("items", note, owner_name, builds["items"].run_id), ("owners", name, builds["owners"].run_id)})

    def work() -> None:
        for number in range(1, 13):
            change(shop, number)
            note_what_is_true()
        ended.set()

    async def ask_on(client: Client) -> list[dict[str, Any]]:
        found = []
        while not ended.is_set():
            found.append(envelope(await client.call_tool("query", {"sql": SQL})))
        return found

    change(shop, 0)
    note_what_is_true()
    writer = threading.Thread(target=work)
    writer.start()
    found = on_http(bridge_url, stage.token("while-rebuilt", KEY), ask_on)
    writer.join()
    told = set()
    for answer in found:
        assert answer["success"], answer
        if any("A run was changing these tables" in warning for warning in answer["warnings"]):
            continue  # it says itself that its rows may be of the change before
        data = answer["data"]
        [[note, notes, owner_name, name]] = data["rows"]
        runs = {source["table"]: source["run_id"] for source in data["sources"]}
        assert notes == 1
        told |= {("items", note, owner_name, runs["items"]), ("owners", name, runs["owners"])}
    assert told <= true
    assert len(told) > 4
