"""PostgreSQL's own programs for backups: pg_dump, pg_dumpall, pg_restore and psql, as the administrator."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from explorer.core.settings import Settings
from explorer.postgres.connections import Login
from explorer.postgres.embedded.binaries import find_binaries
from explorer_cli.operations.backup.package import BackupUnusable

_TOLD_CHARS = 600


class Programs:
    """The programs of one installation of PostgreSQL, which speak to the server of `admin`. The password goes by the environment,
    never on a command line."""

    def __init__(self, settings: Settings, admin: Login) -> None:
        self._folder = find_binaries(settings.postgres_bin).bin_dir
        told = {"PGHOST": admin.host, "PGPORT": str(admin.port), "PGUSER": admin.user, "PGPASSWORD": admin.password}
        options = {f"PG{name.upper()}": str(value) for name, value in admin.options.items() if name.startswith("ssl")}
        # C: its messages are told as they are.
        self._environment = {**os.environ, **told, **options, "LC_ALL": "C"}

    def dump(self, database: str, file: Path) -> None:
        """One database, compressed, with its properties."""
        self._run("pg_dump", "--create", "--format=custom", f"--file={file}", database)

    def globals(self) -> list[str]:
        """The statements that make the cluster's roles."""
        return self._run("pg_dumpall", "--globals-only").splitlines()

    def execute(self, statements: Iterable[str]) -> None:
        """Run statements in database `postgres`, up to the first error."""
        self._run(
            "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname=postgres", given="\n".join(statements)
        )

    def restore(self, file: Path) -> None:
        """Make the database that `dump` has written."""
        self._run("pg_restore", "--exit-on-error", "--create", "--dbname=postgres", str(file))

    def _run(self, program: str, *arguments: str, given: str = "") -> str:
        """Its output. Raises: BackupUnusable: with its own words."""
        path = self._folder / program
        if not path.is_file():
            raise BackupUnusable(
                f"There is no {program} in {self._folder}.",
                next_step="Set EXPLORER_POSTGRES_BIN to a folder with all programs of the server's version.",
            )
        done = subprocess.run(
            [str(path), *arguments], env=self._environment, input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BackupUnusable(
                f"{program} failed: {done.stderr.strip()[-_TOLD_CHARS:]}",
                next_step="Mend what it names; the login must be a superuser, and the programs as new as the server.",
            )
        return done.stdout
