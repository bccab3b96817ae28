"""What dbt may see of this process: its own login and nothing else, since `env_var()` is open to every template.

While dbt runs, the process's environment is cut down to that; so one run at a time per process.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping

from explorer.marts.dbt.errors import TransformBusy
from explorer.postgres.connections import Login

# What a process needs to work at all, and what Dagster reads while it follows the run.
# fmt: off
_PASSED_ON = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "TZ", "SYSTEMROOT",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV",
    "DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "EXPLORER_HOME",
))
# fmt: on
# A query of a killed process ends within a second, and naive timestamps are UTC.
SESSION = {
    "client_connection_check_interval": "1000",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "DateStyle": "ISO,YMD",
    # A table is joined and sorted whole; the default is meant for a hundred sessions.
    "work_mem": "32MB",
}
_running = threading.Lock()


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """The only run of dbt in this process. Raises: TransformBusy."""
    if not _running.acquire(blocking=False):
        raise TransformBusy(
            "dbt is already running in this process.", next_step="Wait for it to end, or use another process."
        )
    try:
        yield
    finally:
        _running.release()


def variables(prefix: str, login: Login) -> dict[str, str]:
    """What profiles.yml reads, and the settings of dbt's sessions."""
    return {
        "DBT_EXPLORER_PREFIX": prefix,
        "DBT_EXPLORER_HOST": login.host,
        "DBT_EXPLORER_PORT": str(login.port),
        "DBT_EXPLORER_DBNAME": login.dbname,
        "DBT_EXPLORER_USER": login.user,
        "DBT_ENV_SECRET_EXPLORER_PASSWORD": login.password,
        "DBT_EXPLORER_SSLMODE": login.options.get("sslmode", "prefer"),
        "DBT_EXPLORER_SSLROOTCERT": login.options.get("sslrootcert", ""),
        "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    }


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The process's environment is `variables` and what every process needs, nothing else; afterwards it is as before."""
    before = dict(os.environ)
    for name in before:
        if name not in _PASSED_ON and not name.startswith("LC_"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
