"""Exports over stdio and from the command line: private files, whole, only of what has changed; and memory that stays flat."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from mcp.client import Client
from mcp.client.stdio import stdio_client

from explorer.catalog import PersonalDataPolicy
from explorer.personal_data import set_policy
from mcp_bridge.exports.files import file_name, safe_name
from tests.mcp_bridge.stage import ROOT, Stage, ask, environment, refused, stdio_server

KEY = "demo:export-files"


def explorer(stage: Stage, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "explorer_cli", *arguments],
        env=environment(stage) | {"PYTHONPATH": str(ROOT)}, cwd=stage.settings.home, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


def test_over_stdio_it_is_a_private_file_and_the_bridge_holds_little_of_it(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    numbers = "SELECT a.n * 1000 + b.n AS id, repeat(md5(b.n::text), 8) AS words FROM numbers a CROSS JOIN numbers b"
    login, schema = stage.catalog.schemas.rw_login(stage.tenants[KEY]), stage.catalog.schemas.get(stage.tenants[KEY])
    with stage.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(
            f'CREATE TABLE "{schema.marts}".numbers AS SELECT g AS n FROM generate_series(0, 999) g'.encode()
        )

    async def work() -> tuple[dict[str, Any], int, int]:
        async with Client(stdio_client(stdio_server(stage, EXPLORER_EXPORT_DIR=str(folder)))) as client:
            (bridge,) = [each for each in psutil.Process().children() if each.cmdline()[1:] == ["-m", "mcp_bridge"]]
            await ask(client, "export_query", tenant=KEY, sql="SELECT * FROM cases", format="parquet")
            before = bridge.memory_info().rss
            made = await ask(client, "export_query", tenant=KEY, sql=f"{numbers} WHERE a.n < 300", format="parquet")
            grown = max(0, bridge.memory_info().rss - before)
            assert (await refused(client, "export_query", tenant=KEY, sql="SELECT 1/0 AS x"))["code"] == "query_failed"
            return made, grown, len(list(folder.iterdir()))

    made, grown, files = asyncio.run(work())
    path = Path(made["path"])
    assert (path.parent, path.stat().st_mode & 0o777, made["rows"]) == (folder, 0o600, 300_000)
    # 300,000 rows of 256 bytes came by.
    assert grown < 60_000_000
    # Two files, each with its provenance; nothing of the one that failed.
    assert files == 4
    found = pq.ParquetFile(path)
    assert found.metadata.num_rows == 300_000
    assert found.num_row_groups > 1
    told = json.loads(Path(made["provenance_path"]).read_text())
    assert (told["sha256"], told["columns"][0]) == (
        hashlib.sha256(path.read_bytes()).hexdigest(),
        {"name": "id", "type": "integer"},
    )


def test_a_tenants_tables_come_out_and_only_what_changed_comes_again(stage: Stage, tmp_path: Path) -> None:
    login, schema = stage.catalog.schemas.rw_login(stage.tenants[KEY]), stage.catalog.schemas.get(stage.tenants[KEY])
    odd = "../../Evil name"
    with stage.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(f'CREATE TABLE "{schema.marts}"."{odd}" AS SELECT \'=1\'::text AS "=x"'.encode())
    stage.recorded(KEY, "run-1", {"cases": 3, "users": 2, "case_child": 2, odd: 1})
    folder = tmp_path / "out"

    def run() -> dict[str, Any]:
        done = explorer(stage, "export", KEY, str(folder), "--to", "csv", "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return {table["table"]: table for table in json.loads(done.stdout)["tables"]}

    first = run()
    assert not any(table["unchanged"] for table in first.values())
    assert (folder / "users.csv").read_bytes() == b"user_id,username\r\nu1,worker1\r\nu2,worker2\r\n"
    assert first[odd]["file"].startswith("_evil_name-")
    assert (folder / first[odd]["file"]).read_bytes() == b"'=x\r\n'=1\r\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    # As a kill leaves it: a part of a file, and a file that the manifest does not know.
    (folder / ".incoming").mkdir()
    (folder / ".incoming" / "part").write_text("x")
    (folder / "users.csv").write_text("half")
    stage.recorded(KEY, "run-2", {"cases": 3})
    second = run()
    assert {name for name, table in second.items() if not table["unchanged"]} >= {"cases", "users"}
    assert second["case_child"]["unchanged"]
    assert not (folder / ".incoming").exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["tables"]["cases"]["version"][0] == "run-2"
    other = explorer(stage, "export", KEY, str(folder), "--to", "parquet", "--json")
    assert (other.returncode, json.loads(other.stdout)["error"]["code"]) == (1, "usage")


def test_files_of_tables_follow_the_policy_for_personal_data(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def run(policy: PersonalDataPolicy | None) -> tuple[str, dict[str, Any]]:
        set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], policy)
        done = explorer(stage, "export", KEY, str(folder), "--to", "csv", "--tables", "cases", "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return (folder / "cases.csv").read_text(), json.loads(done.stdout)["tables"][0]

    try:
        text, _ = run(None)
        assert "Asha" in text
        # The table has not changed, its rules have.
        text, told = run("refuse")
        assert "Asha" not in text
        assert "case_name" not in text.splitlines()[0]
        assert (told["columns_left_out"], told["rows"]) == (["case_name"], 3)
        assert run("refuse")[1]["unchanged"]
        text, _ = run("mask")
        assert text.count("***") == 3
    finally:
        text, _ = run(None)
    assert "Asha" in text


def test_names_of_files_lead_nowhere_else() -> None:
    for text in ("../../etc/passwd", "/abs", "a\0b", "..", "", "\u202etxt", "C:\\x", "a" * 500, "-rf"):
        name = safe_name(text)
        assert os.sep not in name
        assert name.strip(".-") == name != ""
        assert len(name) <= 80
    assert file_name("demo:one", "csv") != file_name("demo:one", "csv")
