"""Which settings exist, what do they mean, and where do they come from? `EXPLORER_*` variables and a `.env` file.

The only place of configuration. An unknown variable that starts with EXPLORER_ stops the start: a misspelt setting must never
fall back to its default. `.env.example` lists every setting; a test keeps the two equal. A secret may lie in a file: then
`EXPLORER_X_FILE` names it, in the place of `EXPLORER_X`; so may the addresses by which the parts are reached.
"""

import difflib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from explorer.core.errors import SettingsInvalid
from explorer.core.loopback import is_loopback
from explorer.core.toolsets import Toolset, ToolsetUnknown

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
    catalog_url: SecretStr | None = Field(
        None,
        description="Login of a process without HOME's connection.json to the catalog, "
        "postgresql://explorer_service:password@host:port/explorer. Empty: from HOME.",
    )
    dagster_database_url: SecretStr | None = Field(
        None,
        description="Login of a process without HOME's connection.json to Dagster's database, "
        "postgresql://dagster:password@host:port/dagster. Empty: from HOME.",
    )
    catalog_owner_url: SecretStr | None = Field(
        None,
        description="Login that owns the catalog's tables, postgresql://explorer_catalog:password@host:port/explorer. With the "
        "two above `explorer db upgrade` gives the logins these passwords, and keeps none in HOME. Empty: from HOME.",
    )
    secret_keys: SecretStr | None = Field(
        None,
        description="Comma-separated Fernet keys that encrypt credentials; the first encrypts, all decrypt. "
        "Empty: HOME/secret.keys, made at first start with mode 0600.",
    )
    installation_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Key of cursors and of questions to users, the same for all bridges: at least 32 random characters. Empty: "
        "HOME/bridge.key, made at first use.",
    )
    audit_key: SecretStr | None = Field(
        None,
        description="Key that signs heads of the audit trail: 32 random bytes in URL-safe base64. Empty: HOME/audit.key, made at "
        "first use.",
    )
    audit_head_interval_s: float = Field(
        300.0, ge=1, le=86_400, description="How often the bridge logs a signed head of the audit trail, in seconds."
    )
    audit_retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after which entries of the audit trail move to files in HOME/audit (`explorer audit seal`, and "
        "`explorer up` every hour); 0: never.",
    )
    saved_models_max: int = Field(
        50, ge=0, le=1000, description="How many models people and agents of one tenant may save; 0: none."
    )
    saved_model_max_rows: int = Field(
        1_000_000,
        ge=1,
        description="How many rows a saved model may have; one that has more fails, and its old rows stay.",
    )
    saved_model_timeout_s: float = Field(
        120.0, gt=0, le=3600, description="How long a statement of a saved model may run while it is built, in seconds."
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
    postgres_fsync: bool = Field(
        True,
        description="Whether the embedded Postgres flushes to disk what is committed. Without, a power cut destroys its data: "
        "for tests.",
    )
    dagster_host: str = Field("127.0.0.1", description="Address on which `explorer up` serves the Dagster UI.")
    dagster_port: int = Field(3000, ge=0, le=65535, description="Port of the Dagster UI; 0 picks a free one.")
    dagster_url: str | None = Field(
        None,
        description="Base URL of a Dagster webserver run elsewhere, which accepts its host too. Empty: the one that "
        "`explorer up` runs.",
    )
    dagster_token: SecretStr | None = Field(
        None, description="Token by which programs enter the guarded webserver. Empty: HOME/webserver.token."
    )
    ui_url: str | None = Field(
        None,
        description="Address by which browsers reach the Dagster UI behind a proxy, https and without a path; links name it, "
        "and its host is accepted too. Empty: the one on which the webserver listens.",
    )
    ui_session_hours: float = Field(
        12, gt=0, le=24 * 30, description="Hours after which a browser's session at the Dagster UI ends."
    )
    bridge_host: str = Field("127.0.0.1", description="Address on which the MCP bridge listens (streamable HTTP).")
    bridge_port: int = Field(8100, ge=0, le=65535, description="Port of the MCP bridge; 0 picks a free one.")
    bridge_processes: int = Field(
        1,
        ge=1,
        le=4,
        description="Processes of the MCP bridge on its port. More than one use more processors, and clients of MCP's older "
        "revisions have no sessions then (docs/operations.md).",
    )
    bridge_public_url: str | None = Field(
        None,
        description="URL by which clients reach the bridge behind a proxy; its host is then accepted too. May lie in a file, as "
        "a secret may.",
    )
    bridge_inner_url: str | None = Field(
        None,
        description="URL by which the Dagster UI asks the bridge who may sign in, where it does not reach the public one. Empty: "
        "the public one.",
    )
    bridge_toolsets: str = Field(
        "",
        description="Tools that all callers of the bridge see beside the default ones: schema, models, workspaces, operations, "
        "with commas, or all. Others turn them on by their token or when they sign in.",
    )
    sign_in_file: Path | None = Field(
        None,
        description="YAML file that says how people sign in to the bridge (docs/sign_in.md). Empty: only with tokens that the "
        "operator makes.",
    )
    token: SecretStr | None = Field(
        None, description="Bearer token that `explorer-mcp` acts with over stdio. Empty: the local operator."
    )
    demo_port: int = Field(0, ge=0, le=65535, description="Port of the demo server; 0 picks one at first and keeps it.")
    demo_cases: int = Field(600, ge=1, le=10_000_000, description="Number of cases in the demo's larger project space.")
    max_concurrent_runs: int = Field(3, ge=1, le=500, description="Dagster runs at a time, over all tenants.")
    run_retention_days: int = Field(
        30,
        ge=0,
        le=36_500,
        description="Days after which a run is removed with its events and logs, unless a table is still as that run left it; 0: "
        "never.",
    )
    idle_schema_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after which the schemas of a tenant that nobody asked are dropped, until its next run makes them "
        "again; 0: never.",
    )
    quota_runs: int = Field(
        0,
        ge=0,
        description="Runs that a tenant may have in a day, whoever starts them; 0: any number. `explorer tenants quota` sets "
        "others.",
    )
    quota_requests: int = Field(
        0,
        ge=0,
        description="Requests that may be sent to a tenant's server in a day, by runs and looks; 0: any number.",
    )
    quota_rows: int = Field(0, ge=0, description="Rows that a tenant's runs may load in a day; 0: any number.")
    quota_bytes: int = Field(
        0, ge=0, description="Bytes that a tenant's server may send to runs and looks in a day; 0: any number."
    )
    look_trusted_hours: float = Field(
        24.0,
        gt=0,
        le=24 * 31,
        description="After so many hours a schedule starts a tenant's run even if a look finds no news: for what a look does not "
        "see, such as people and places.",
    )
    tenant_wait_s: float = Field(
        600.0,
        ge=0,
        le=86_400,
        description="How long a run, or `explorer dbt`, waits while another of these changes the tenant's tables, in seconds.",
    )
    run_launcher: Literal["warm", "default"] = Field(
        "warm", description="`warm` forks runs from a process that has everything imported; `default` is Dagster's own."
    )
    celery_broker_url: SecretStr | None = Field(
        None,
        description="Broker by which runs are given to workers of Celery, redis://:password@host:6379/0. Needed with "
        "deploy/instance/celery.yaml alone.",
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
    export_link_minutes: float = Field(
        15.0, gt=0, le=24 * 60, description="Minutes for which a link to an export is good."
    )
    export_timeout_s: float = Field(
        50.0,
        gt=0,
        le=3600,
        description="Time limit of one export, in seconds, the client's reading included: until then a run that changes the "
        "tables waits, and a run waits for a minute.",
    )
    export_max_rows: int = Field(5_000_000, ge=1, description="Rows in one export at most.")
    export_max_bytes: int = Field(2_000_000_000, ge=1_000, description="Bytes of one export at most.")
    export_dir: Path | None = Field(None, description="Folder for exports of a bridge over stdio. Empty: HOME/exports.")
    budget_window_s: int = Field(
        3600, ge=1, le=604_800, description="Length of the window for which the budgets below hold, in seconds."
    )
    budget_calls: int = Field(
        100_000,
        ge=0,
        description="Calls that a principal may make for one tenant in a window; 0: any number. `explorer limits` sets others.",
    )
    budget_rows: int = Field(
        50_000_000,
        ge=0,
        description="Rows in the answers of a principal's queries of one tenant in a window; 0: any number.",
    )
    budget_bytes: int = Field(
        10_000_000_000,
        ge=0,
        description="Bytes of answers that a principal may get of one tenant in a window; 0: any number.",
    )
    budget_seconds: int = Field(
        14_400,
        ge=0,
        description="Seconds that the statements of a principal's queries of one tenant may run in a window; 0: any number.",
    )
    personal_data: Literal["mark", "refuse", "mask"] = Field(
        "mark",
        description="What agents may do with columns that hold personal data: read them, marked as such; not read them; or only "
        "see that there are any. `explorer tenants personal-data` sets it for one tenant.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Token that readers of /metrics send, at the bridge and at the Dagster UI: at least 16 characters. Empty: "
        "HOME/metrics.token, which `explorer up` makes.",
    )
    alert_webhook_url: SecretStr | None = Field(
        None,
        description="Address that alerts are posted to as JSON, such as an incoming webhook of Slack or Mattermost "
        "(docs/monitoring.md). Empty: they are only shown.",
    )
    alert_stale_hours: float = Field(
        26.0,
        gt=0,
        le=24 * 365,
        description="Hours since a scheduled tenant's server was last looked at, after which there is an alert.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="Base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318. Empty: no "
        "traces are made (docs/monitoring.md).",
    )
    otlp_headers: SecretStr | None = Field(
        None, description="Headers for the collector: name=value, separated by commas, values percent-encoded."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of logs: `text`, or `json` with one object per line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )

    @field_validator("home", "project_dir", "postgres_bin", "sign_in_file", "export_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value else None

    @field_validator("bridge_toolsets")
    @classmethod
    def _known_toolsets(cls, value: str) -> str:
        try:
            Toolset.listed(value)
        except ToolsetUnknown as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("ui_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        """As browsers write it in Host and Origin."""
        if not value:
            return None
        try:
            parts = urlsplit(value)
            given_port = parts.port
        except ValueError:
            # Its own words repeat what was given.
            raise ValueError("it is no address") from None
        host, own = parts.hostname or "", {"https": 443, "http": 80}.get(parts.scheme)
        if not host or own is None or (parts.scheme == "http" and not is_loopback(host)):
            raise ValueError("it must be an https address, or an http address of this machine")
        if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("it must be scheme, host and port alone")
        port = "" if given_port in (None, own) else f":{given_port}"
        return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def given_variables() -> dict[str, str | None]:
    """The variables of `./.env` and, before them, those of the environment."""
    return {**dotenv_values(".env"), **os.environ}


def check_names(names: list[str]) -> None:
    """Refuse variables with our prefix that are no setting.

    Raises:
        SettingsInvalid: with the unknown name and the nearest known one.
    """
    known = {PREFIX + field.upper() for field in Settings.model_fields} | {_file_of(name) for name in _IN_FILES}
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
    given = given_variables()
    check_names(list(given))
    try:
        return Settings(**_read_files(given))
    except ValidationError as error:
        problems = "; ".join(f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsInvalid(
            f"Settings cannot be used: {problems}.", next_step="Correct them; see .env.example."
        ) from None


# The settings that may lie in files: secrets, and what processes on other machines are given beside them.
_IN_FILES = (
    *(name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)),
    "bridge_public_url",
    "dagster_url",
    "ui_url",
)


def _file_of(name: str) -> str:
    """The variable that names a setting's file."""
    return f"{PREFIX}{name.upper()}_FILE"


def _read_files(given: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings that lie in files.

    Raises:
        SettingsInvalid: a file cannot be read, or the setting is given too.
    """
    found: dict[str, Any] = {}
    # As pydantic reads the settings themselves: in any case of letters.
    given = {name.upper(): value for name, value in given.items()}
    for name in _IN_FILES:
        path = given.get(_file_of(name))
        if not path:
            continue
        if given.get(f"{PREFIX}{name.upper()}"):
            raise SettingsInvalid(
                f"Both {PREFIX}{name.upper()} and {_file_of(name)} are set.", next_step="Remove one of them."
            )
        try:
            found[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsInvalid(
                f"{_file_of(name)} names a file that cannot be read: {reason}.",
                next_step="Correct the path or its rights.",
            ) from None
    return found


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once. Tests that change the environment call `get_settings.cache_clear()`."""
    return load_settings()
