"""The baseline commcare-export, Dimagi's published exporter, installed from the package index in its own environment.

It reads the older case list and the form list page by page and writes through SQLAlchemy. An Excel query defines one column
per question; the query here has the questions of the demo's programme.
"""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from benchmarks.ground import ROOT, Ground, Server
from demo_commcare import MATERNAL

VERSION = "1.16.0"
# Kept between runs: installing takes a minute.
ENVIRONMENT = ROOT / "build" / "benchmarks" / f"commcare-export-{VERSION}"
DATABASE = "commcare_export"
_INSTALL_TIMEOUT_S = 900
_RUN_TIMEOUT_S = 3600


class ExporterFailed(Exception):
    """commcare-export could not be installed, or it failed."""


def install() -> Path:
    """Install it and return the path of its Python. Raises ExporterFailed, for instance without network."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "installed"
    if done.exists():
        return python
    packages = [f"commcare-export=={VERSION}", "openpyxl", "psycopg2-binary"]
    _run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], timeout_s=_INSTALL_TIMEOUT_S)
    _run([str(python), "-m", "pip", "install", "--quiet", *packages], timeout_s=_INSTALL_TIMEOUT_S)
    done.touch()
    return python


def export(ground: Ground, server: Server, until: datetime) -> dict[str, Any]:
    """Export cases and forms that were indexed until then into a new database. Returns `{"wall_s", "cases", "forms"}`, counted in
    that database.

    Raises:
        ExporterFailed: with the end of its output.
    """
    python = install()
    folder = ground.files / "commcare_export"
    folder.mkdir(exist_ok=True)
    with ground.connections.admin.connect(autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    login = ground.connections.admin
    database = login.to(user=login.user, password=login.password, dbname=DATABASE)
    job = {
        "folder": str(folder), "project": MATERNAL, "until": until.strftime("%Y-%m-%dT%H:%M:%S"),
        "output": database.sqlalchemy_url(), **server.address,
    }  # fmt: skip
    ground.settle()
    script = Path(__file__).with_name("exporter_run.py")
    wall_s = json.loads(
        _run([str(python), "-P", str(script)], timeout_s=_RUN_TIMEOUT_S, text=json.dumps(job), folder=folder)
    )
    with database.connect() as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in ("cases", "forms")]  # noqa: S608
    cases, forms = (count[0] if count else 0 for count in counts)
    return {"wall_s": wall_s, "cases": cases, "forms": forms}


def _run(command: list[str], *, timeout_s: float, text: str = "", folder: Path | None = None) -> str:
    """Run it and return the last line of its output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            command, input=text, text=True, capture_output=True, check=True, timeout=timeout_s, cwd=folder, env=env
        )
    except subprocess.CalledProcessError as error:
        raise ExporterFailed(f"{Path(command[0]).name} failed: {error.stderr[-2000:]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExporterFailed(f"{Path(command[0]).name}: {type(error).__name__}") from None
    return done.stdout.strip().rpartition("\n")[2]
