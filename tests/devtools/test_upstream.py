"""The scan finds a private name however it is written, and takes nothing of ours for one."""

from pathlib import Path

import pytest

from devtools.imports import read_modules
from devtools.upstream import Sources


def scanned(tmp_path: Path, text: str) -> Sources:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "module.py").write_text(text)
    return Sources(read_modules(tmp_path, ["ours"]))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from dagster._core.launcher import RunLauncher", "dagster._core.launcher.RunLauncher"),
        ("import dagster as dg\ndg._core.launcher.RunLauncher()", "dagster._core.launcher.RunLauncher"),
        ("NAMES = ('dagster._cli.api',)", "dagster._cli.api"),
        ("import sys\nsys._current_frames()", "sys._current_frames"),
        ("def f(part):\n    return part._engine", "*._engine"),
        ("def f(part):\n    return getattr(part, '_engine')", "*._engine"),
        ("def f(part):\n    return vars(part)['_engine']", "*._engine"),
        ("import psycopg\ndef f(patch):\n    patch.setattr(psycopg.Connection, '_wait', 1)", "psycopg.Connection._wait"),
        ("import dagster as dg\nclass L(dg.DefaultRunLauncher):\n    def f(self):\n        return self._instance",
         "dagster.DefaultRunLauncher._instance"),
    ],
)  # fmt: skip
def test_a_private_name_of_others_is_found(tmp_path: Path, text: str, name: str) -> None:
    assert [use.name for use in scanned(tmp_path, text).private_names()] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n    def __init__(self):\n        self._x = 1\n    def f(self, other):\n        return self._x + other._x",
        "class A:\n    _x: int\nclass B(A):\n    def f(self):\n        return self._x",
        "import dagster as dg\ndg.__name__",
        "NAME = 'no such library._x'",
    ],
)
def test_what_is_ours_or_public_is_none(tmp_path: Path, text: str) -> None:
    assert scanned(tmp_path, text).private_names() == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import os\nos.environ['A'] = 'b'", "os.environ"),
        ("import os\nos.environ |= {}", "os.environ"),
        ("from os import environ\nenviron.update(A='b')", "os.environ"),
        ("import json\njson.dumps = str", "json.dumps"),
        ("import psycopg\nsetattr(psycopg.Connection, 'close', None)", "psycopg.Connection.close"),
        ("from signal import signal\nsignal(2, None)", "signal.signal"),
        ("def f():\n    import ctypes", "ctypes"),
        ("import logging\nlogging.getLogger('sqlglot').setLevel(1)", "logging.getLogger('sqlglot')"),
    ],
)
def test_what_changes_others_or_the_process_is_found(tmp_path: Path, text: str, name: str) -> None:
    assert [use.name for use in scanned(tmp_path, text).changes()] == [name]


def test_reading_and_what_is_ours_are_no_changes(tmp_path: Path) -> None:
    text = "import os, logging\nclass A:\n    x = 1\nA.x = os.environ.get('B')\nlogging.getLogger('ours').setLevel(1)"
    assert scanned(tmp_path, text).changes() == []


def test_a_module_counts_however_it_is_reached(tmp_path: Path) -> None:
    text = "import mcp.client.stdio\nfrom uvicorn.protocols.http import h11_impl\nNAME = 'dagster_webserver.app'"
    assert {use.name for use in scanned(tmp_path, text).foreign_modules()} == {
        "mcp.client.stdio",
        "uvicorn.protocols.http.h11_impl",
        "dagster_webserver.app",
    }
