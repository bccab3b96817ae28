"""The environment of a part: common variables, our resolved settings, and only the secrets that the part needs."""

import os
import sys
import sysconfig
from pathlib import Path

from pydantic import SecretStr

from explorer.core.settings import PREFIX, Settings

# A child inherits only these, so that it gets no secrets of other programs.
INHERITED = frozenset({
    "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "TERM",
    "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
})  # fmt: skip
QUIET = {
    "PYTHONUNBUFFERED": "1",
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
}
# glibc's malloc (its manual: Memory Allocation Tunables) gives large blocks back at once and keeps two heaps. By default its
# threshold rises to the largest freed block, and each thread has a heap, over which the pages of a load scatter.
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "4194304"}


def child_env(settings: Settings, *secrets: str) -> dict[str, str]:
    """The environment of a part: common variables, our settings, and of the secrets only the named fields.

    Settings are resolved here, so that a `.env` file in the part's folder changes nothing.
    """
    env = {name: value for name, value in os.environ.items() if name in INHERITED}
    package_root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, env.get("PYTHONPATH")]))
    for field in settings.model_fields_set | {"home", "project_dir"}:
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            if field in secrets:
                env[PREFIX + field.upper()] = value.get_secret_value()
        elif value is not None:
            env[PREFIX + field.upper()] = str(value)
    return {**env, **QUIET, **MEMORY, "DAGSTER_HOME": str(settings.home / "dagster")}


def bridge_env(settings: Settings) -> dict[str, str]:
    """The environment of a bridge, which never gets the administrator's login."""
    return child_env(
        settings, "catalog_url", "secret_keys", "installation_key", "audit_key", "dagster_token", "metrics_token",
        "otlp_headers",
    )  # fmt: skip


def python_module(name: str, *args: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *args]


def python_script(name: str, *args: str) -> list[str]:
    """The command that a package has installed beside this interpreter."""
    return [str(Path(sysconfig.get_path("scripts"), name)), *args]
