"""How does an operator run dbt on a tenant's tables? As that tenant's login, under its run lock, audited."""

import contextlib
import hashlib
import ipaddress
import os
import time
import uuid
from collections.abc import Iterator, Sequence

import psycopg

from explorer.catalog import OPERATOR, AuditEntry, State
from explorer.catalog.tenants.tenant import Tenant
from explorer.contract.bookkeeping import holdings
from explorer.marts import TenantDbt, TransformFailed, close_all, run_command
from explorer.personal_data import align_reader
from explorer.postgres.run_lock import Waiting, run_lock
from explorer_cli.errors import UsageInvalid
from explorer_cli.output.terminal import say, show_error
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store

# Options whose values may hold SQL with literals.
_TEXTS = frozenset({"--inline", "--args", "--vars"})


def run_dbt(key: str, arguments: Sequence[str]) -> int:
    """Run the command with dbt's output on the terminal. Waits for a run that changes the tenant's tables. Returns dbt's exit
    status."""
    _refuse_other_hosts(arguments)
    settings = open_settings()
    run_id = f"dbt-{uuid.uuid4().hex[:12]}"
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        login = store.catalog.schemas.rw_login(tenant)
        schemas = store.catalog.schemas.get(tenant)
        dbt = TenantDbt(settings, tenant.provider, schemas, store.connections.tenant(login.user, login.password))
        with _audited(store, tenant, arguments, run_id) as statuses, _alone(store, tenant, dbt, arguments, run_id):
            statuses.append(_invoke(dbt, arguments, run_id))
    return statuses[0]


def _invoke(dbt: TenantDbt, arguments: Sequence[str], run_id: str) -> int:
    try:
        outcome = run_command(dbt, arguments, run_id=run_id, tell=say)
    except TransformFailed as error:
        show_error(error, as_json=False)
        return 2
    finally:
        close_all()
    return 0 if outcome.is_success else 1


@contextlib.contextmanager
def _alone(store: Store, tenant: Tenant, dbt: TenantDbt, arguments: Sequence[str], run_id: str) -> Iterator[None]:
    """Hold the tenant's run lock, and mark its schemas as being written, as a run does: so agents see what the command made.
    The server of the documentation runs as long as somebody reads."""
    if list(arguments[:2]) == ["docs", "serve"]:
        yield
        return
    schemas, before = store.catalog.schemas, {State.ACTIVE, State.MATERIALIZING, State.EXPIRED}
    holder, waiting = f"explorer dbt, process {os.getpid()}", Waiting(dbt.settings.tenant_wait_s, say)
    with run_lock(dbt.login, tenant.key, dbt.schemas.prefix, holder=holder, waiting=waiting) as connection:
        schemas.transition(tenant, before, State.MATERIALIZING, run_id=run_id)
        try:
            yield
            align_reader(dbt.settings, store.catalog, store.connections, tenant, dbt.schemas, connection)
        finally:
            held = None
            with contextlib.suppress(psycopg.Error):
                held = holdings.read(connection, dbt.schemas)
            schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id=run_id, holdings=held)


@contextlib.contextmanager
def _audited(store: Store, tenant: Tenant, arguments: Sequence[str], run_id: str) -> Iterator[list[int]]:
    """Record the command and how it ended: the block puts dbt's exit status into the list."""
    statuses: list[int] = []
    started = time.monotonic()
    try:
        yield statuses
    finally:
        status = statuses[0] if statuses else None
        store.catalog.audit.append(
            AuditEntry(
                OPERATOR,
                "dbt",
                tenant.key,
                "ok" if status == 0 else "error",
                detail={"command": list(_without_texts(arguments)), "exit_status": status, "run_id": run_id},
                duration_ms=round((time.monotonic() - started) * 1000),
            )
        )


def _without_texts(arguments: Sequence[str]) -> Iterator[str]:
    """The audit keeps hashes of statements, never their literals."""
    option = ""
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if option in _TEXTS:
            yield _hashed(argument)
        elif separator and name in _TEXTS:
            yield f"{name}={_hashed(value)}"
        else:
            yield argument
        option = argument


def _hashed(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _refuse_other_hosts(arguments: Sequence[str]) -> None:
    """dbt's server of documentation asks nobody who they are."""
    for name, value in zip(arguments, [*arguments[1:], ""], strict=True):
        host = name.partition("=")[2] if name.startswith("--host=") else value if name == "--host" else None
        if host is not None and not _is_loopback(host):
            raise UsageInvalid(
                f"dbt's server of documentation has no sign-in, so it listens on this machine alone, not on {host}.",
                next_step="Leave out --host, or copy the files of `docs generate` to a server of your own.",
            )


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
