"""A HOME of its own for every test, and commands run as a user would: in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explorer_cli.supervisor import make_home

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    make_home(folder)
    return folder


class Answer:
    """What a command printed and how it ended."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Explorer = Callable[..., Answer]


@pytest.fixture
def explorer(home: Path) -> Explorer:
    """`explorer("status", "--json", EXPLORER_X=...)`: the real command in a real process."""

    def run(*args: str, cwd: Path = home, **variables: str) -> Answer:
        env = {name: value for name, value in os.environ.items() if not name.startswith("EXPLORER_")}
        env |= {"EXPLORER_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables}
        command = [sys.executable, "-m", "explorer_cli", *args]
        return Answer(
            subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
        )

    return run
