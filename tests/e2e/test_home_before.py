"""A HOME that the version before left behind comes up, keeps what it has, and what that version guessed wrong is put right."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo_commcare import MATERNAL
from explorer.postgres.embedded import EmbeddedPostgres
from tests.e2e.home_before import (
    FIRST_PHONES,
    FIRST_RETURNS,
    FIXTURES,
    KEY,
    LATER_PHONES,
    LATER_RETURNS,
    SECOND_PHONES,
    project_space,
    unpack,
)
from tests.e2e.stack import Stack

ARCHIVE = FIXTURES / "home-c9b507b.tar.xz"


@dataclass
class Before:
    """The old installation under this version. `facts`: what was noted when it was packed; `columns`: types before the first
    sync; `described`: what `describe_table` said of the contacts after it."""

    stack: Stack
    facts: dict[str, Any]
    columns: dict[str, dict[str, str]]
    first_sync: dict[str, Any]
    described: dict[str, Any]


@pytest.fixture(scope="module")
def before() -> Iterator[Before]:
    """Brought up, and synced once."""
    parent = Path(tempfile.mkdtemp(prefix="explorer-before-"))
    # Started by root, the database server runs as another account, which has to pass through here.
    parent.chmod(0o711)
    home = parent / "home"
    facts = unpack(ARCHIVE, home)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
    env = {**inherited, "EXPLORER_HOME": str(home), "EXPLORER_DAGSTER_PORT": "0", "EXPLORER_BRIDGE_PORT": "0"}
    with project_space(second=True) as server:
        stack = Stack(home, server, env, token=facts["token"])
        try:
            stack.cli("up", "--detach", "--no-demo")
            status = json.loads(stack.cli("status", "--json").stdout)
            stack.bridge_url, stack.dagster_url = status["bridge_url"], status["dagster_url"]
            columns = _columns(stack)
            first_sync = json.loads(stack.cli("sync", KEY, "--wait", "--json").stdout)
            described = stack.call("describe_table", tenant=KEY, table="case_contact")
            yield Before(stack, facts, columns, first_sync, described)
        finally:
            stack.cli("down", check=False)
            EmbeddedPostgres(home).remove_data()
            shutil.rmtree(parent)


def test_it_comes_up_with_its_data_tables_and_tokens(before: Before) -> None:
    stack, facts = before.stack, before.facts
    assert before.first_sync["state"] == "SUCCESS", before.first_sync
    tables = before.first_sync["tables"]
    # One row per kind of doubt: a newer version looks for more of them.
    assert tables.pop("data_quality") >= facts["tables"].pop("data_quality")
    assert {name: tables.get(name) for name in facts["tables"]} == facts["tables"]
    assert set(before.columns) <= set(_columns(stack))

    # The token was made before; through it the old rows are those that the server has.
    truth = {case["case_id"]: case["case_name"] for case in stack.demo.truth(MATERNAL).cases}
    assert dict(stack.rows(KEY, "select case_id, case_name from cases")) == truth
    forms = {form["id"] for form in stack.demo.truth(MATERNAL).forms}
    assert {row[0] for row in stack.rows(KEY, "select form_id from forms")} == forms
    listed = stack.call("list_tables", tenant=KEY, limit=50)
    assert listed["success"], listed


def test_it_takes_up_what_is_new(before: Before) -> None:
    case_id = before.stack.demo.control.create_case(MATERNAL, "visitor", "New under this version", {"room": "Ward A"})
    run = before.stack.sync(KEY)
    assert run["status"] == "SUCCESS", run
    assert before.stack.rows(KEY, "select case_id, room from case_visitor") == [[case_id, "Ward A"]]


def test_types_that_were_guessed_wrong_are_put_right_and_reported(before: Before) -> None:
    stack = before.stack
    assert before.columns["case_contact"]["phone"] == "bigint"
    assert before.columns["case_contact"]["back_on"] == "date"

    # By the first sync, with nothing new at the server: anew from what was loaded.
    assert _texts(stack, "phone") == sorted(FIRST_PHONES + SECOND_PHONES)
    assert _texts(stack, "back_on") == sorted(FIRST_RETURNS + LATER_RETURNS)
    columns = _columns(stack)["case_contact"]
    assert (columns["phone"], columns["back_on"]) == ("text", "text")
    assert columns["dose"] in ("numeric", "double precision")
    changes = " ".join(before.described["data"]["type_changes"])
    assert re.search(r"phone: (bigint|integer) to text", changes)
    assert "back_on: date to text" in changes
    # Whoever waits for the sync is told so too.
    assert set(before.described["data"]["type_changes"]) <= {
        change.removeprefix("case_contact.") for change in before.first_sync["type_changes"]
    }

    stack.demo.control.create_case(MATERNAL, "contact", "From abroad", {"phone": LATER_PHONES[0]})
    assert stack.sync(KEY)["status"] == "SUCCESS"
    assert _texts(stack, "phone") == sorted(FIRST_PHONES + SECOND_PHONES + LATER_PHONES)
    assert stack.rows(KEY, "select count(*), min(dose)::float8 from case_contact where dose is not null") == [[30, 2.5]]


def _texts(stack: Stack, column: str) -> list[str]:
    rows = stack.rows(KEY, f"select {column} from case_contact where {column} is not null")
    return sorted(str(value) for (value,) in rows)


def _columns(stack: Stack) -> dict[str, dict[str, str]]:
    """Types by column by table, as the database has them."""
    with stack.admin() as conn:
        return _columns_of(conn)


def _columns_of(conn: "psycopg.Connection[Any]") -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    rows = conn.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema ~ '^t_[0-9a-f]{8}_marts$'"
    ).fetchall()
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found
