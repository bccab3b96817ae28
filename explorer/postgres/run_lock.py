"""Does somebody else change this tenant's tables? One lock per tenant, for loads, table updates and dbt."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from explorer.core.errors import TransientError
from explorer.postgres.connections import Connection, Login

# How often one who waits looks again.
_POLL_S = 0.5
# PostgreSQL cuts longer names of applications.
_MAX_HOLDER_CHARS = 63
_WHO = (
    "select a.application_name from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory'"
    " and l.granted and l.objsubid = 2 and (l.classid, l.objid) = (hashtext(%s)::oid, hashtext('load')::oid)"
)


class TenantBusy(TransientError):
    """A run or a command changes the tenant's tables already."""

    code = "tenant_busy"


@dataclass(frozen=True)
class Waiting:
    """How long one waits for somebody else to end, in seconds, and who is told that one does, in a sentence."""

    limit_s: float
    tell: Callable[[str], None]


NOT_WAITING = Waiting(0, lambda _: None)


@contextmanager
def run_lock(
    login: Login, tenant_key: str, prefix: str, *, holder: str, waiting: Waiting = NOT_WAITING
) -> Iterator[Connection]:
    """Hold the tenant's lock; yields the connection that has it, in autocommit mode. The lock ends with the connection, even when
    the process is killed. `login`: the tenant's rw login; `holder`: who this is, for whoever finds the lock taken.

    Raises:
        TenantBusy: somebody else holds it, and did so as long as one waits.
        DatabaseUnreachable: the server does not answer or refuses the login.
    """
    with login.connect(autocommit=True) as connection:
        connection.execute("select set_config('application_name', %s, false)", [holder[:_MAX_HOLDER_CHARS]])
        _take(connection, tenant_key, prefix, waiting)
        yield connection


def _take(connection: Connection, tenant_key: str, prefix: str, waiting: Waiting) -> None:
    """In attempts: a statement that waits in the server would outlive a process that is killed, and take the lock then."""
    began, is_told = time.monotonic(), False
    # The name `load` is that of versions in which only loads took the lock.
    lock = "select pg_try_advisory_lock(hashtext(%s), hashtext('load'))"
    while connection.execute(lock, [prefix]).fetchone() != (True,):
        who = connection.execute(_WHO, [prefix]).fetchone()
        said = f"The tables of {tenant_key} are being changed by {(who and who[0]) or 'another process'}"
        if time.monotonic() - began >= waiting.limit_s:
            waited = f", and have been for {waiting.limit_s:g} s" if waiting.limit_s else ""
            raise TenantBusy(f"{said}{waited}.", next_step="Wait for it to end, then try again.")
        if not is_told:
            waiting.tell(f"{said}: this waits for it to end, at most {waiting.limit_s:g} s.")
            is_told = True
        time.sleep(_POLL_S)
    if is_told:
        waiting.tell(f"It ended after {time.monotonic() - began:.0f} s: this goes on.")
