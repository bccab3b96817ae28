"""A provider is a folder: a checkout syncs a second kind of system after only the provider's own files were added."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo_commcare import MATERNAL, serve_in_thread
from tests.e2e.stack import Stack, environment
from tests.e2e.tiny_provider.server import GARDEN, KEY, SITE, TOKEN, TinyServer, serve

ROOT = Path(__file__).parents[2]
OVERLAY = Path(__file__).parent / "tiny_provider" / "overlay"
COPIED = ("demo_commcare", "dbt_project", "explorer", "explorer_cli", "explorer_dagster", "mcp_bridge", "pipelines")
FILES = ("dagster.yaml", "workspace.yaml", "pyproject.toml")
ROSES, MOTHERS, METERS = "tiny:rose-hill", "e2e:maternal", "bare:17"
TABLES = {"plants", "visits", "plant_care"}


def test_the_overlay_adds_files_and_changes_none() -> None:
    added = [path.relative_to(OVERLAY) for path in OVERLAY.rglob("*") if path.is_file()]
    assert len(added) > 10
    assert [str(path) for path in added if (ROOT / path).exists()] == []


@pytest.fixture(scope="module")
def tiny() -> Iterator[TinyServer]:
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def platform(tiny: TinyServer) -> Iterator[Stack]:
    parent = Path(tempfile.mkdtemp(prefix="explorer-tiny-"))
    # When root starts it, the database server runs as another account, which must be able to enter this folder.
    parent.chmod(0o711)
    checkout = parent / "checkout"
    for name in COPIED:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "target", "logs"))
    for name in FILES:
        shutil.copy(ROOT / name, checkout / name)
    shutil.copytree(OVERLAY, checkout, dirs_exist_ok=True)
    with serve_in_thread(cases=60) as demo:
        env = environment(
            parent / "home", PYTHONPATH=str(checkout), EXPLORER_PROJECT_DIR=str(checkout), EXPLORER_EXPOSE_RAW="true",
            DEMO_KEY=demo.api_key, TINY_TOKEN=TOKEN, BARE_KEY=KEY,
        )  # fmt: skip
        stack = Stack(parent / "home", demo, env, folder=checkout)
        try:
            stack.up()
            stack.cli("tenants", "add", ROSES, "--provider", "tiny", "--server", tiny.url, "--external-id", GARDEN,
                      "--credential", "token=TINY_TOKEN")  # fmt: skip
            stack.add_tenant(MOTHERS, MATERNAL)
            stack.cli("tenants", "add", METERS, "--provider", "bare", "--server", tiny.url, "--external-id", f"0{SITE}",
                      "--credential", "key=BARE_KEY")  # fmt: skip
            stack.token = stack.new_token("all", ROSES, MOTHERS, METERS)
            yield stack
        finally:
            stack.cli("down", check=False)
            shutil.rmtree(parent, ignore_errors=True)


def tables(platform: Stack, tenant: str) -> set[str]:
    answer = platform.call("list_tables", tenant=tenant)
    assert answer["success"], answer
    return {table["name"] for table in answer["data"]["tables"] if table["kind"] != "raw"}


def expected(tiny: TinyServer) -> tuple[list[list[Any]], list[list[Any]]]:
    """The server's plants and visits, in the order of the queries."""
    plants = sorted([p["id"], p["name"], p["height_cm"]] for p in tiny.store.plants)
    visits = sorted([v["plant_id"], v["day"], v["note"]] for v in tiny.store.visits)
    return plants, visits


def found(platform: Stack) -> tuple[list[list[Any]], list[list[Any]]]:
    """The same data as agents see them."""
    plants = platform.rows(ROSES, "select plant_id, name, height_cm from plants order by plant_id")
    visits = platform.rows(ROSES, "select plant_id, day::text, note from visits order by plant_id, day, note")
    return plants, visits


def care(tiny: TinyServer) -> list[list[Any]]:
    """How often each plant was visited, by the server's records."""
    visited = Counter(visit["plant_id"] for visit in tiny.store.visits)
    return sorted([plant["id"], visited[plant["id"]]] for plant in tiny.store.plants)


def cared_for(platform: Stack) -> list[list[Any]]:
    """The same by the provider's dbt model."""
    return platform.rows(ROSES, "select plant_id, visits from plant_care order by plant_id")


def test_both_providers_are_synced_side_by_side(platform: Stack, tiny: TinyServer) -> None:
    run = json.loads(platform.cli("sync", ROSES, "--wait", "--json").stdout)
    assert run["state"] == "SUCCESS", run
    assert {name for name in run["tables"] if not name.startswith("raw_")} == TABLES
    assert found(platform) == expected(tiny)
    assert cared_for(platform) == care(tiny)
    assert expected(tiny)[1].count([4, "2026-03-04", "watered"]) == 2

    mothers = json.loads(platform.cli("sync", MOTHERS, "--wait", "--json").stdout)
    assert mothers["state"] == "SUCCESS", mothers
    assert platform.rows(MOTHERS, "select count(*) from cases") == [[len(platform.demo.truth(MATERNAL).cases)]]
    assert not tables(platform, MOTHERS) & TABLES
    assert tables(platform, ROSES) == TABLES


def test_the_next_sync_brings_what_changed(platform: Stack, tiny: TinyServer) -> None:
    store = tiny.store
    store.plants = [p for p in store.plants if p["id"] != 7] + [{"id": 26, "name": "fig", "height_cm": 5}]
    store.plants[0]["height_cm"] = 999
    store.visits.append(dict(store.visits[0]))
    # A record counts as gone after two complete reads in a row without it.
    for _ in range(2):
        run = json.loads(platform.cli("sync", ROSES, "--wait", "--json").stdout)
        assert run["state"] == "SUCCESS", run
    assert found(platform) == expected(tiny)
    assert cared_for(platform) == care(tiny)


def test_a_provider_without_structure_models_and_keys_is_synced_and_explained(
    platform: Stack, tiny: TinyServer
) -> None:
    run = json.loads(platform.cli("sync", METERS, "--wait", "--json").stdout)
    assert run["state"] == "SUCCESS", run
    readings = platform.rows(METERS, "select id, meter, (record ->> 'litres')::float8 from raw_readings order by id")
    assert readings == [[r["id"], r["meter"], r["litres"]] for r in tiny.store.readings]
    alarms = "select meter, count(*) from raw_alarms group by meter order by meter"
    assert platform.rows(METERS, alarms) == [["m1", 3], ["m2", 1]]
    meters = "select meter, (record ->> 'litres')::float8 from raw_meters order by meter"
    assert platform.rows(METERS, meters) == [
        [meter, sum(r["litres"] for r in tiny.store.readings if r["meter"] == meter)] for meter in ("m0", "m1", "m2")
    ]

    listed = platform.call("list_tables", tenant=METERS)["data"]["tables"]
    assert {(row["name"], row["kind"], row["row_count"]) for row in listed} >= {
        ("raw_readings", "raw", 33),
        ("raw_alarms", "raw", 4),
    }
    described = platform.call("describe_table", tenant=METERS, table="raw_readings")["data"]
    assert (described["primary_key"], described["source"], described["joins"]) == (["id"], None, [])
    status = platform.call("get_schema_status", tenant=METERS)["data"]
    assert (status["state"], status["structure"], status["schedules"]) == ("active", None, [])
    assert platform.call("get_metadata", tenant=METERS)["data"]["structure"] is None
    hit = platform.call("search_metadata", tenant=METERS, search="reading")["data"]["hits"][0]
    assert hit["table"] == "raw_readings"
    lineage = platform.call("get_lineage", tenant=METERS, table="raw_readings", column="meter")["data"]
    assert lineage["origin"] == {"resources": [{"name": "readings", "endpoint": "readings"}]}
    pipelines = {row["name"]: row for row in platform.call("list_pipelines")["data"]["pipelines"]}
    assert (pipelines["bare_sync"]["discovery"], pipelines["bare_sync"]["transforms"]) == ([], None)
    doctor = json.loads(platform.cli("doctor", "--online", "--json").stdout)
    outcomes = {check["check"]: (check["outcome"], check["detail"]) for check in doctor["checks"]}
    assert outcomes[f"credentials of {METERS}"] == ("ok", "key holder may read Site 17")


def test_its_tenant_is_purged_and_comes_back(platform: Stack, tiny: TinyServer) -> None:
    platform.cli("tenants", "remove", METERS, "--purge", "--yes")
    platform.cli("tenants", "add", METERS, "--provider", "bare", "--server", tiny.url, "--external-id", str(SITE),
                 "--credential", "key=BARE_KEY")  # fmt: skip
    del tiny.store.readings[0]
    run = json.loads(platform.cli("sync", METERS, "--wait", "--json").stdout)
    assert run["state"] == "SUCCESS", run
    token = platform.cli("tokens", "create", "--name", "again", "--tenant", METERS).stdout.strip()
    assert platform.rows(METERS, "select count(*), min(id) from raw_readings", token) == [[32, 2]]


def test_what_the_provider_says_of_its_tenants_is_shown(platform: Stack) -> None:
    listed = json.loads(platform.cli("tenants", "list", "--json").stdout)["tenants"]
    assert {row["key"]: (row["provider"], row["display_name"]) for row in listed}[ROSES] == ("tiny", "Rose Hill")
    status = platform.call("get_schema_status", tenant=ROSES)["data"]
    assert status["structure"]["brought"] == "6 fields new"
    doctor = json.loads(platform.cli("doctor", "--online", "--json").stdout)
    details = {check["check"]: check["detail"] for check in doctor["checks"]}
    assert details[f"credentials of {ROSES}"] == "gardener may read Rose Hill"


def test_a_wrong_credential_adds_no_tenant(platform: Stack, tiny: TinyServer) -> None:
    platform.env["WRONG_TOKEN"] = "wrong"
    refused = platform.cli(
        "tenants", "add", "tiny:other", "--provider", "tiny", "--server", tiny.url, "--external-id", "other-hill",
        "--credential", "token=WRONG_TOKEN", check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "tiny_credentials_invalid" in refused.stderr
    unsaid = platform.cli("tenants", "add", "x", "--server", tiny.url, "--domain", GARDEN, check=False)
    assert "--provider, one of: bare, commcare, tiny" in " ".join(unsaid.stderr.split())
