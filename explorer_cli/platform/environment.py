"""The environment of a part: common variables, our resolved settings, and only the secrets that the part needs."""

import os
import sys
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
    return {**env, **QUIET, "DAGSTER_HOME": str(settings.home / "dagster")}


def python_module(name: str, *args: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", name, *args]
