"""Which settings exist, what do they mean, and where do they come from? `EXPLORER_*` variables and a `.env` file.

The only place of configuration. An unknown variable that starts with EXPLORER_ stops the start: a misspelt setting must never
fall back to its default. `.env.example` lists every setting; a test keeps the two equal.
"""

import difflib
import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from explorer.core.errors import SettingsInvalid

PREFIX = "EXPLORER_"


def _project_dir() -> Path:
    """The checkout with `pipelines/` and `dbt_project/`: beside this package in an editable install."""
    return Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Every setting of the platform. Field `x_y` is read from `EXPLORER_X_Y`; the description is its manual entry."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("data-explorer")),
        description="Folder of all state: embedded Postgres, keys, logs, loader and dbt work files.",
    )
    project_dir: Path = Field(
        default_factory=_project_dir,
        description="Checkout that holds pipelines/, dbt_project/, dagster.yaml and workspace.yaml.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="Admin URL of an external PostgreSQL (15 or newer), postgresql://user:password@host:port/postgres. "
        "Empty: the embedded server.",
    )
    secret_keys: SecretStr | None = Field(
        None,
        description="Comma-separated Fernet keys that encrypt credentials; the first encrypts, all decrypt. "
        "Empty: HOME/secret.keys, made at first start with mode 0600.",
    )
    postgres_port: int = Field(
        0, ge=0, le=65535, description="Port of the embedded Postgres; 0 picks a free one and keeps it."
    )
    postgres_bin: Path | None = Field(
        None, description="Folder with postgres, initdb and pg_ctl instead of the wheel's."
    )
    postgres_os_user: str | None = Field(
        None, description="Account the embedded Postgres runs as when started by root. Empty: postgres, else nobody."
    )
    postgres_memory_mb: int = Field(
        640,
        ge=0,
        description="Memory limit of each embedded Postgres process in MB beside shared buffers (Linux); 0 sets none.",
    )
    dagster_host: str = Field("127.0.0.1", description="Address on which `explorer up` serves the Dagster UI.")
    dagster_port: int = Field(3000, ge=0, le=65535, description="Port of the Dagster UI; 0 picks a free one.")
    dagster_url: str | None = Field(
        None, description="Base URL of a Dagster webserver run elsewhere. Empty: the one that `explorer up` runs."
    )
    dagster_token: SecretStr | None = Field(
        None, description="Token that the guarded webserver asks for on mutations. Empty: HOME/webserver.token."
    )
    bridge_host: str = Field("127.0.0.1", description="Address on which the MCP bridge listens (streamable HTTP).")
    bridge_port: int = Field(8100, ge=0, le=65535, description="Port of the MCP bridge; 0 picks a free one.")
    bridge_public_url: str | None = Field(
        None, description="URL by which clients reach the bridge behind a proxy; its host is then accepted too."
    )
    token: SecretStr | None = Field(
        None, description="Bearer token that `explorer-mcp` acts with over stdio. Empty: the local operator."
    )
    demo_port: int = Field(0, ge=0, le=65535, description="Port of the demo server; 0 picks one at first and keeps it.")
    demo_cases: int = Field(600, ge=1, le=10_000_000, description="Number of cases in the demo's larger project space.")
    max_concurrent_runs: int = Field(3, ge=1, le=500, description="Dagster runs at a time, over all tenants.")
    run_launcher: Literal["warm", "default"] = Field(
        "warm", description="`warm` forks runs from a process that has everything imported; `default` is Dagster's own."
    )
    expose_raw: bool = Field(False, description="Let agents read the raw_* tables as the API sent them.")
    http_timeout_s: float = Field(
        60.0,
        gt=0,
        le=600,
        description="Longest silence of a tenant's server, in seconds; a whole answer may take five times as long.",
    )
    http_max_attempts: int = Field(
        6, ge=1, le=20, description="Tries of one request to a tenant's server before the run fails."
    )
    http_max_retry_after_s: float = Field(
        120.0,
        ge=0,
        le=3600,
        description="Longest Retry-After that a run waits for; a longer one ends the run, and Dagster starts it again later.",
    )
    http_max_response_mb: int = Field(256, ge=1, le=4096, description="Largest decoded response body accepted, in MB.")
    proof_max_requests: int = Field(
        200,
        ge=0,
        le=100_000,
        description="Requests that a load may spend on one resource to ask for records that did not come; when more are missing, "
        "none is marked as gone.",
    )
    requests_per_second: float = Field(
        20.0, gt=0, le=1000, description="Own ceiling of requests per second to one domain."
    )
    query_timeout_s: float = Field(15.0, gt=0, le=300, description="Time limit of one agent query, in seconds.")
    query_wait_s: float = Field(
        20.0, gt=0, le=300, description="How long a query waits for its turn among those of its tenant, in seconds."
    )
    query_last_resort_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Seconds until a query that cannot be interrupted makes the embedded server restart its sessions; 0: never.",
    )
    query_max_rows: int = Field(500, ge=1, le=100_000, description="Rows in one answer of `query` at most.")
    query_max_bytes: int = Field(
        200_000, ge=1_000, le=50_000_000, description="Bytes of row data in one answer of `query` at most."
    )
    query_max_cell_bytes: int = Field(
        4_000, ge=100, le=1_000_000, description="Bytes of one cell at most; longer ones are cut and marked."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )

    @field_validator("home", "project_dir", "postgres_bin")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value else None


def check_names(names: list[str]) -> None:
    """Refuse variables with our prefix that are no setting.

    Raises:
        SettingsInvalid: with the unknown name and the nearest known one.
    """
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise SettingsInvalid(
                f"Unknown setting {name}.", next_step=f"{hint}Correct or remove it; .env.example lists every setting."
            )


def load_settings() -> Settings:
    """Read settings from the environment and `./.env`.

    Raises:
        SettingsInvalid: an unknown name or an unusable value. The message does not repeat the value, which may be a secret.
    """
    check_names([*os.environ, *dotenv_values(".env")])
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsInvalid(
            f"Settings cannot be used: {problems}.", next_step="Correct them; see .env.example."
        ) from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once. Tests that change the environment call `get_settings.cache_clear()`."""
    return load_settings()
