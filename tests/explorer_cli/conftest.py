"""A HOME of its own for every test, and commands run as a user runs them."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo_commcare import RunningServer, serve_in_thread
from explorer.core.settings import get_settings
from explorer_cli import main
from explorer_cli.supervision.home import open_home

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    open_home(folder)
    return folder


@dataclass(frozen=True)
class Answer:
    """A command's output and exit status."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Explorer = Callable[..., Answer]


@pytest.fixture
def explorer(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Explorer]:
    """`explorer("status", "--json", EXPLORER_X="...")`: a command with its arguments and its environment."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def run(*args: str, **variables: str) -> Answer:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("EXPLORER_")]:
                patch.delenv(name)
            own = {"EXPLORER_HOME": str(home), "EXPLORER_POSTGRES_FSYNC": "false", "COLUMNS": "200"}
            for name, value in (own | variables).items():
                patch.setenv(name, value)
            patch.chdir(home)
            get_settings.cache_clear()
            code = main.run(args)
        shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    yield run
    get_settings.cache_clear()
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="module")
def commcare() -> Iterator[RunningServer]:
    """A demo CommCare server for one module."""
    with serve_in_thread() as server:
        yield server
