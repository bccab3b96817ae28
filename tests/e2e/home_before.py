"""Installations of earlier versions: packs a HOME with its project space, and starts it again.

`tests/e2e/fixtures/home-<commit>.tar.xz` holds a HOME with data from an older version. This command packs one of the
present version, so that the next version can be tested with it:

    python -m tests.e2e.home_before

The project space has the demo's data and values for which a type can be guessed wrong. These come in two parts, and the older
version loaded each part in a separate sync.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from demo_commcare.clock import parse_instant
from demo_commcare.programme.journal import case_block, system_body
from demo_commcare.records import FormRecord
from demo_commcare.world import Story
from explorer.core.settings import Settings
from explorer.postgres.embedded import embedded_from
from explorer.postgres.embedded.binaries import find_binaries
from explorer.postgres.embedded.server_settings import SERVER_SETTINGS, SERVER_SETTINGS_SINCE_16

FIXTURES = Path(__file__).resolve().parent / "fixtures"
KEY = "before:maternal"
# The tenant stores its server's address, so the port must stay the same. It is outside the range of outgoing connections.
PORT = 28471
API_KEY = "4f0c8b8d1a5e4a5f9b0c7d6e5f4a3b2c1d0e9f80"
CASES = 60
FACTS = "facts.json"

# Case type `contact` is in no application, so the types are guessed from the values.
FIRST_PHONES = [f"98410000{n:02d}" for n in range(30)]
SECOND_PHONES = ["0712345678"]
LATER_PHONES = ["+9779841000099"]
DOSES = ["2.5"] * 30
FIRST_RETURNS = ["2026-12-01"]
LATER_RETURNS = ["refused", "moved away", "2 weeks", "after harvest", "unknown", "not home", "next month", "died"]
_FIRST_AT = "2026-11-20T08:00:00Z"
_SECOND_AT = "2026-11-21T08:00:00Z"


def first_part() -> Story:
    """Thirty contacts with phone and dose, and one with a date of return."""
    contacts = [{"phone": phone, "dose": dose} for phone, dose in zip(FIRST_PHONES, DOSES, strict=True)]
    return _story("a", _FIRST_AT, [*contacts, *({"back_on": value} for value in FIRST_RETURNS)])


def second_part() -> Story:
    """The values that made the older version's guesses wrong."""
    values = [*({"phone": phone} for phone in SECOND_PHONES), *({"back_on": value} for value in LATER_RETURNS)]
    return _story("b", _SECOND_AT, values)


@contextmanager
def project_space(*, second: bool) -> Iterator[RunningServer]:
    """The demo server with the first part; `second` adds the second part."""
    with serve_in_thread(cases=CASES, api_key=API_KEY, port=PORT) as server:
        tell(server, first_part())
        if second:
            tell(server, second_part())
        yield server


def tell(server: RunningServer, story: Story) -> None:
    """Add submissions and their cases to the project space, with their own instants."""
    world = server.app.world
    with world.lock:
        world.projects[MATERNAL].load_story(story)


def unpack(archive: Path, home: Path) -> dict[str, Any]:
    """Unpack the HOME to `home`. Returns the facts noted when it was packed: `{version, token, tables}`."""
    home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700)
    if os.geteuid() == 0:
        home.chmod(0o711)
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data")
    record = json.loads((home / "connection.json").read_text())
    record["cluster_dir"] = str(home / "postgres")
    (home / "connection.json").write_text(json.dumps(record))
    (home / "connection.json").chmod(0o600)
    data = home / "postgres" / "data"
    data.chmod(0o700)
    if os.geteuid() == 0:
        (home / "postgres").chmod(0o711)
        account = _server_account()
        for path in (data, *data.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    facts = home / FACTS
    known: dict[str, Any] = json.loads(facts.read_text())
    facts.unlink()
    return known


def _story(letter: str, at: str, contacts: Sequence[dict[str, str]]) -> Story:
    """One submission per contact, a second apart."""
    forms = []
    for number, properties in enumerate(contacts, 1):
        instant_us = parse_instant(at)[0] + number * 1_000_000
        case_id = f"{letter}0000000-0000-4000-a000-{number:012x}"
        form_id = f"{letter}f000000-0000-4000-a000-{number:012x}"
        create = {"case_type": "contact", "case_name": f"Contact {letter}{number}", "owner_id": "demo-control"}
        block = case_block(case_id, "demo-control", instant_us, create, properties)
        body = system_body(MATERNAL, form_id, instant_us, "demo-control", [block])
        xmlns = str(body["form"]["@xmlns"])
        forms.append(FormRecord(MATERNAL, form_id, xmlns, None, instant_us, instant_us, instant_us, body))
    return Story.of(forms)


def _make(folder: Path) -> Path:
    """Make an installation of the checked out version, sync it twice, stop it and pack it."""
    version = _git("rev-parse", "--short", "HEAD")
    parent = Path(tempfile.mkdtemp(prefix="explorer-before-"))
    parent.chmod(0o711)
    home = parent / "home"
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("EXPLORER_", "DAGSTER_"))}
    ports = {"EXPLORER_DAGSTER_PORT": "0", "EXPLORER_BRIDGE_PORT": "0"}
    env = {**inherited, **ports, "EXPLORER_HOME": str(home), "BEFORE_KEY": API_KEY}

    def explorer(*arguments: str) -> str:
        command = [sys.executable, "-m", "explorer_cli", *arguments]
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout

    try:
        with project_space(second=False) as server:
            explorer("up", "--detach", "--no-demo")
            try:
                explorer("tenants", "add", KEY, "--server", server.url, "--domain", MATERNAL, "--username",
                         server.username, "--api-key-env", "BEFORE_KEY")  # fmt: skip
                token = explorer("tokens", "create", "--name", "before", "--tenant", KEY).strip()
                explorer("sync", KEY, "--wait", "--json")
                tell(server, second_part())
                tables = json.loads(explorer("sync", KEY, "--wait", "--json"))["tables"]
            finally:
                explorer("down")
        _trim(home)
        facts = {"version": version, "token": token, "tables": tables}
        (home / FACTS).write_text(json.dumps(facts, indent=2))
        return _pack(home, folder / f"home-{version}.tar.xz")
    finally:
        embedded_from(Settings(_env_file=None, home=home)).remove_data()
        shutil.rmtree(parent)


def _trim(home: Path) -> None:
    """Shrink the server's write-ahead log and its tables, so that the archive is small."""
    postgres = home / "postgres"
    binaries = find_binaries(None, int((postgres / "data" / "PG_VERSION").read_text()))
    record = json.loads((home / "connection.json").read_text())
    settings = SERVER_SETTINGS | SERVER_SETTINGS_SINCE_16 | {
        "port": str(record["port"]), "min_wal_size": "32MB", "max_wal_size": "32MB",
    }  # fmt: skip
    options = " ".join(f"-c {name}={value!r}" for name, value in settings.items())
    bin_dir = postgres / "bin" if (postgres / "bin").is_dir() else None
    programs = next(bin_dir.rglob("pg_ctl")).parent if bin_dir else binaries.bin_dir

    def as_server(command: list[str], **variables: str) -> None:
        account = _server_account()
        as_account: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        drop = as_account if os.geteuid() == 0 else {}
        subprocess.run(command, cwd=postgres / "data", env={**os.environ, **variables}, check=True,
                       stdout=subprocess.DEVNULL, **drop)  # fmt: skip

    control = [str(programs / "pg_ctl"), "-D", str(postgres / "data"), "-w"]
    as_server([*control, "-o", options, "-l", str(postgres / "log" / "server.log"), "start"])
    try:
        place = {"host": record["host"], "port": record["port"], "user": "postgres", "password": record["password"]}
        with psycopg.connect(**place, dbname="postgres", autocommit=True) as conn:
            names = [name for (name,) in conn.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()]
        for name in names:
            with psycopg.connect(**place, dbname=name, autocommit=True) as conn:
                conn.execute("VACUUM (FULL)")
        with psycopg.connect(**place, dbname="postgres", autocommit=True) as conn:
            for _ in range(4):
                conn.execute("SELECT pg_switch_wal()")
                conn.execute("CHECKPOINT")
    finally:
        as_server([*control, "-m", "fast", "stop"])


def _pack(home: Path, archive: Path) -> Path:
    """Pack everything except logs, copied programs and files that the next start makes again."""
    left_out = {"logs", "run", "postgres/bin", "postgres/log", "dagster/logs"}

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        inside = member.name.removeprefix("./")
        if inside in left_out or "__pycache__" in inside or not (member.isfile() or member.isdir()):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        tar.add(home, arcname=".", filter=wanted)
    return archive


def _server_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("neither postgres nor nobody is an account of this machine")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    made = _make(FIXTURES)
    print(f"{made}: {made.stat().st_size:,} bytes")
