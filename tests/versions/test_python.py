"""The demo on each newer Python that this machine has: installed by the README's words, synced, and asked through the bridge."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import throwaway_home

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.12", "3.13")
pytestmark = pytest.mark.timeout(1200)


def _programs() -> dict[str, str]:
    """By version, those on the path and those that pyenv made."""
    made = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in VERSIONS:
        places = [
            *sorted(map(str, made.glob(f"{version}.*/bin/python"))),
            *filter(None, [shutil.which(f"python{version}")]),
        ]
        # pyenv's shim is on the path also where the version is not chosen, and then only says so.
        works = [
            place
            for place in places
            if subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode == 0
        ]
        if works:
            found[version] = works[0]
    return found


PROGRAMS = _programs()


@pytest.mark.parametrize(("version", "program"), PROGRAMS.items(), ids=PROGRAMS)
def test_the_demo_works_on_a_newer_python(version: str, program: str, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_", "PYTHON"))
    }
    environment |= {"EXPLORER_DAGSTER_PORT": "0", "EXPLORER_BRIDGE_PORT": "0"}
    run(program, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), "-e", str(ROOT))
    assert run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip() == version
    with throwaway_home() as home:
        environment["EXPLORER_HOME"] = str(home)
        told = json.loads(run(python, "-m", "explorer_cli", "demo", "--once", "--json"))
    assert [run["state"] for run in told["runs"]] == ["SUCCESS", "SUCCESS"]
    assert len(told["answer"]["rows"]) > 5
