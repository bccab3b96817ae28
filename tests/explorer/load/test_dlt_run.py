"""Rows that dlt writes are exactly those that came, whatever characters they have and whatever dlt finds on the machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.extract.records.reader import Row
from explorer.load.dlt_rows import WaitingRows, literal
from explorer.load.dlt_run import TableFile, run_dlt
from explorer.load.errors import LoadFailed
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.rows import RowFormat
from explorer.load.raw.table import RawTable
from tests.explorer.load.conftest import Loader
from tests.explorer.load.test_kill import KILLED_WORKER

MOMENT = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
KEYS = {"thing_id": "text", "a__b": "text", "n": "bigint", "flag": "boolean", "at": "timestamp"}
TABLE = RawTable("raw_things", "things", "thing_id", KEYS | {"record": "json"}, by_dlt=True)
TEXTS = [
    "",
    "NULL",
    "'",
    "\\",
    "\\'",
    "a\nb\rc\t",
    "%s {0} {}",
    "),\n(",
    ";",
    "\uf026decimal",
    "\x85\u2028",
    "é\U0001f476",
]


def _write(tenant: Any, folder: Path, rows: list[Row]) -> None:
    folder.mkdir()
    with tenant.rw.connect(autocommit=True) as connection:
        RawSchema(tenant.names).open(connection, [TABLE], "run")
    waiting = WaitingRows(TABLE, RowFormat(KEYS, "thing_id", "run", MOMENT), folder, "run", MOMENT)
    path = folder / "rows"
    waiting.write(path, waiting.pack(rows, 3))
    waiting.close()
    run_dlt("things", tenant.names.raw, tenant.rw.conninfo(), folder / "dlt", [TableFile(TABLE, path, len(rows))])


def _read(tenant: Any) -> dict[str, tuple[Any, ...]]:
    with tenant.rw.connect() as connection:
        query = "SELECT thing_id, a__b, n, flag, at, record::text, _page, _run_id, _loaded_at FROM {}.raw_things"
        return {row[0]: tuple(row) for row in connection.execute(query.format(tenant.names.raw))}


def test_values_come_out_as_they_went_in(make_tenant: Callable[..., Any], tmp_path: Path) -> None:
    tenant = make_tenant()
    numbers = '{"n": 12345678901234567890.1234567890123456789, "small": 1E-400}'
    rows = [
        Row(
            f"r{number}{text}",
            None,
            (f"r{number}{text}", text, -number, None, MOMENT),
            json.dumps({"v": text}).encode(),
        )
        for number, text in enumerate(TEXTS)
    ]
    rows += [Row("none", None, ("none", None, None, True, None), b'{\n"pretty": [1,\r\n2]}'),
             Row("numbers", None, ("numbers", None, 2**63 - 1, False, None), numbers.encode())]  # fmt: skip
    _write(tenant, tmp_path / "first", rows)
    found = _read(tenant)
    assert len(found) == len(rows)
    for row in rows:
        *keys, record, page, run_id, moment = found[row.id]
        assert (tuple(keys), page, run_id, moment) == (row.keys, 3, "run", MOMENT)
        assert json.loads(record, parse_float=str, parse_int=str) == json.loads(
            row.json.replace(b"1E-400", b"0." + b"0" * 399 + b"1"), parse_float=str, parse_int=str
        )
    again = Row("none", None, ("none", "now", 1, False, MOMENT), b'{"other": true}')
    _write(tenant, tmp_path / "second", [again])
    assert _read(tenant) == found | {"none": (*again.keys, '{"other": true}', 3, "run", MOMENT)}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_every_text_is_one_line_and_oneliteral(text: str) -> None:
    """PostgreSQL reads back what was written; a line break inside would end the row for dlt."""
    written = literal(text)
    assert "\n" not in written
    assert "\r" not in written
    body = written.removeprefix("E'").removesuffix("'")
    assert (
        body.replace(r"\\", "\x00").replace(r"\'", "'").replace(r"\n", "\n").replace(r"\r", "\r").replace("\x00", "\\")
        == text
    )


def test_what_dlt_cannot_write_is_a_failed_load(make_tenant: Callable[..., Any], tmp_path: Path) -> None:
    tenant = make_tenant()
    with tenant.rw.connect(autocommit=True) as connection:
        RawSchema(tenant.names).open(connection, [TABLE], "run")
        connection.execute(f"ALTER TABLE {tenant.names.raw}.raw_things ADD CONSTRAINT c CHECK (n < 0)")
    with pytest.raises(LoadFailed) as failed:
        _write(tenant, tmp_path / "load", [Row("r", None, ("r", None, 1, None, None), b'{"secret": 1}')])
    assert 'violates check constraint "c"' in failed.value.message
    assert "secret" not in str(failed.value.as_dict())
    assert _read(tenant) == {}


def test_settings_of_the_machine_change_nothing(loader: Loader, tmp_path: Path) -> None:
    """Files that dlt reads by default: other credentials, names, file formats and another dataset."""
    folder = tmp_path / ".dlt"
    folder.mkdir()
    hostile = """
restore_from_destination = true
dev_mode = true
dataset_name = "elsewhere"
[runtime]
dlthub_telemetry = true
intercept_signals = true
[schema]
naming = "duck_case"
[load]
workers = 50
[normalize.data_writer]
disable_compression = false
[destination.postgres]
staging_dataset_name_layout = "other_%s"
create_indexes = true
[destination.postgres.credentials]
host = "127.0.0.1"
port = 1
database = "x"
username = "x"
password = "x"
"""
    for name in ("config.toml", "secrets.toml"):
        (folder / name).write_text(hostile)
    login = loader.target.conninfo()
    done = subprocess.run(
        [sys.executable, str(KILLED_WORKER), "none", "in memory", loader.demo.url, loader.demo.username,
         loader.tenant.prefix, str(loader.work_dir)],
        env={
            **os.environ,
            "KILLED_API_KEY": loader.demo.api_key,
            "KILLED_LOGIN": " ".join(f"{key}={value}" for key, value in login.items()),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert loader.differences() == {}
