"""What a part inherits: what programs need anyway, our settings resolved, and of the secrets only those that it needs."""

import os
import sys
from pathlib import Path

from pydantic import SecretStr

from explorer.core.settings import PREFIX, Settings

# What a child may inherit. Everything else, other programs' secrets above all, stays behind.
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
    """The environment of a part: what programs need anyway, our settings, and of the secrets only the named fields.

    Settings come resolved, so that parts agree with this process whatever `.env` file lies where they run.
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
    """The command that runs a module in this interpreter."""
    return [sys.executable, "-m", name, *args]
