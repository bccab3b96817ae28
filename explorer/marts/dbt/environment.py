"""What may dbt see of this process? Only its own login, since every template can call `env_var()`.

While dbt runs, the process's environment is reduced to that; so one run at a time per process.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping

from explorer.marts.dbt.errors import TransformBusy
from explorer.postgres.connections import Login

# Variables that a process needs to work, and those that Dagster reads during a run.
# fmt: off
_PASSED_ON = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "TZ", "SYSTEMROOT",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV",
    "DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "EXPLORER_HOME",
))
# fmt: on
# Queries of a killed process end within a second, and naive timestamps are UTC.
SESSION = {
    "client_connection_check_interval": "1000",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "DateStyle": "ISO,YMD",
    # Tables are joined and sorted as a whole; the default is meant for a hundred sessions.
    "work_mem": "32MB",
}
_running = threading.Lock()


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Make this the only run of dbt in this process. Raises: TransformBusy."""
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
    """Reduce the process's environment to `variables` and the basics; restore it afterwards."""
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
