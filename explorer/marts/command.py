"""Which command line and which environment does dbt get for one tenant?"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import Settings
from explorer.marts.process import PARSE, ask
from explorer.marts.project import find_project
from explorer.postgres.connections import Login
from explorer.tables.engine import SESSION

# Every template can call `env_var()`, so dbt sees nothing of our environment but what a process needs to work.
# fmt: off
_PASSED_ON = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "TZ", "SYSTEMROOT",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV",
))
# fmt: on
QUIET = ("--log-level", "none", "--log-level-file", "none")
"""Options of commands whose output nobody reads."""
_OF_RUNS = ("--log-level", "none", "--log-level-file", "info", "--no-use-colors-file", "--no-write-json")


def environment_for(project: Path, folder: Path) -> dict[str, str]:
    """The part of our environment that dbt sees, and the folders of the project and of what dbt keeps."""
    basics = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    return basics | {
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(project),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder),
    }


def _one_word(value: str) -> str:
    """As libpq reads an option's value with blanks."""
    return re.sub(r"([\\\s])", r"\\\1", value)


@dataclass(frozen=True)
class TenantDbt:
    """dbt as one tenant: its login (rw) and schemas, the project, and a folder of its own for what dbt keeps."""

    settings: Settings
    provider: str
    schemas: TenantSchemas
    login: Login

    @property
    def folder(self) -> Path:
        """Where dbt keeps its parse, its compiled SQL and its log."""
        return self.settings.home / "dbt" / self.schemas.prefix

    def environment(
        self, run_id: str, definitions: Mapping[str, str] | None = None, updates: Mapping[str, int] | None = None
    ) -> Mapping[str, str]:
        """What profiles.yml and the project's macros read, the folders, and the settings of dbt's sessions. `definitions`: of the
        models, without which each is built again in the next run; `updates`: models that may be brought up to date by keys, to
        the version of their rows."""
        # A commit need not wait for the disk: what is recorded after dbt does, and so for all before it.
        session = {**SESSION, "synchronous_commit": "off", "explorer.run_id": run_id}
        return environment_for(find_project(self.settings), self.folder) | {
            "DBT_EXPLORER_DEFINITIONS": json.dumps(dict(definitions or {})),
            "DBT_EXPLORER_UPDATES": json.dumps(dict(updates or {})),
            "DBT_EXPLORER_SCHEMA": self.schemas.marts,
            "DBT_EXPLORER_HOST": self.login.host,
            "DBT_EXPLORER_PORT": str(self.login.port),
            "DBT_EXPLORER_DBNAME": self.login.dbname,
            "DBT_EXPLORER_USER": self.login.user,
            "DBT_ENV_SECRET_EXPLORER_PASSWORD": self.login.password,
            "DBT_EXPLORER_SSLMODE": self.login.options.get("sslmode", "prefer"),
            "DBT_EXPLORER_SSLROOTCERT": self.login.options.get("sslrootcert", ""),
            "PGOPTIONS": " ".join(f"-c {name}={_one_word(value)}" for name, value in session.items()),
        }


def get_ready(dbt: TenantDbt) -> None:
    """Let dbt read the project for a new tenant while its data are loaded: the first time that takes seconds."""
    if not (dbt.folder / "target" / "partial_parse.msgpack").is_file():
        read_ahead(dbt)


def read_ahead(dbt: TenantDbt) -> None:
    """Let dbt read the project while the tenant's tables are brought up to date, so that its build begins at once."""
    ask([*_OF_RUNS, PARSE], dbt.environment(""))


def build_arguments(select: Sequence[str]) -> list[str]:
    """`dbt build` of these models and tests. Unit tests say nothing of a tenant's data."""
    return [*_OF_RUNS, "build", "--exclude-resource-type", "unit_test", "--select", *select]
