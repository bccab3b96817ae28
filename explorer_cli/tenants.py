"""What `explorer tenants` does: the operator's way to `explorer.tenants`, with Dagster's partitions kept in step."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass

from explorer.catalog import ApiKeyCredential, Credential, OAuthCredential, Tenant, normalize_server
from explorer.catalog.audit import AuditEntry
from explorer.catalog.request_slots import RequestSlots
from explorer.core.settings import Settings
from explorer.providers.commcare.access import verify_access
from explorer.tenants import add_tenant, remove_tenant
from explorer_cli.errors import ConfirmationNeeded, SecretMissing, UsageInvalid
from explorer_cli.output.escapes import visible
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store
from mcp_bridge.clients.dagster import DagsterClient, DagsterUnavailable

TOKEN_PATH = "/oauth/token/"  # noqa: S105 - a path, not a token


@dataclass(frozen=True)
class CredentialOptions:
    """How the operator says which credential to use: names of variables, never secrets."""

    username: str | None
    api_key_env: str | None
    oauth_client_id: str | None
    oauth_client_secret_env: str | None
    oauth_refresh_token_env: str | None
    oauth_token_url: str | None

    def read(self, server: str) -> Credential:
        """The credential, from the environment.

        Raises:
            UsageInvalid: neither or both kinds are named.
            SecretMissing: a variable is empty or not set.
        """
        api_key = bool(self.username or self.api_key_env)
        oauth = bool(self.oauth_client_id or self.oauth_refresh_token_env or self.oauth_client_secret_env)
        if api_key and not oauth and self.username and self.api_key_env:
            return ApiKeyCredential(self.username, _secret(self.api_key_env))
        if oauth and not api_key and self.oauth_client_id and self.oauth_refresh_token_env:
            return OAuthCredential(
                client_id=self.oauth_client_id,
                client_secret=_secret(self.oauth_client_secret_env) if self.oauth_client_secret_env else "",
                token_url=self.oauth_token_url or f"{normalize_server(server)}{TOKEN_PATH}",
                access_token="",
                refresh_token=_secret(self.oauth_refresh_token_env),
            )
        raise UsageInvalid(
            "The credential is not complete." if api_key != oauth else "One kind of credential is needed.",
            next_step="Give --username and --api-key-env, or --oauth-client-id and --oauth-refresh-token-env"
            " (and --oauth-client-secret-env, unless the client is public).",
        )


def add(key: str, *, server: str, domain: str, options: CredentialOptions, as_json: bool) -> int:
    """Verify access, make room, register the partition where Dagster runs."""
    settings = open_settings()
    credential = options.read(server)
    with open_store(settings) as store:
        tenant = add_to(store, key, server=server, domain=domain, credential=credential)
        registered = register_partition(settings, tenant.key)
    if as_json:
        answer_json({"tenant": describe(store, tenant, state=None), "partition_registered": registered})
        return 0
    say(("Added", "green"), f" {tenant.key}: {tenant.display_name} on {tenant.server}.")
    later = "" if registered else " (once `explorer up` runs)"
    say(f"Load it with `explorer sync {tenant.key} --wait`{later}.")
    return 0


def add_to(store: Store, key: str, *, server: str, domain: str, credential: Credential) -> Tenant:
    """`add_tenant` with the real check of access. Raises what that raises."""
    return add_tenant(
        store.settings, store.catalog, store.connections, key=key, server=server, domain=domain, credential=credential,
        verify=verify_access,
    )  # fmt: skip


def show_list(*, as_json: bool) -> int:
    """All tenants with the state of their schemas."""
    settings = open_settings()
    with open_store(settings) as store:
        tenants = store.catalog.tenants.list()
        rows = [describe(store, tenant, state=str(store.catalog.schemas.get(tenant).state)) for tenant in tenants]
    if as_json:
        answer_json({"tenants": rows})
    else:
        columns = ("key", "display_name", "server", "domain", "schema_state", "created_at")
        show_table(
            ("Key", "Name", "Server", "Project space", "Schema", "Added"),
            [[row[column] for column in columns] for row in rows],
            empty="No tenants yet. `explorer tenants add --help` tells how to add one; `explorer demo` adds two invented ones.",
        )
    return 0


def remove(key: str, *, purge: bool, yes: bool, as_json: bool) -> int:
    """Take a tenant away and its partition off Dagster's list."""
    settings = open_settings()
    if purge and not yes:
        _confirm(key)
    with open_store(settings) as store:
        tenant = remove_tenant(settings, store.catalog, store.connections, key, purge=purge)
    gone = _with_dagster(settings, lambda client: client.delete_partition(tenant.key))
    if as_json:
        answer_json({"removed": tenant.key, "purged": purge, "partition_removed": gone})
    else:
        say(
            f"Removed {tenant.key}."
            + (" Its data are deleted." if purge else " Its data stay; add it again to use them.")
        )
    return 0


def unblock(key: str, *, as_json: bool) -> int:
    """End the pause that a server asked for; audited, because the server may cut off who does not listen."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        with closing(RequestSlots(store.connections.service, tenant.server, tenant.domain)) as slots:
            lifted_s = slots.lift()
        store.catalog.audit.append(
            AuditEntry("operator", "unblock", tenant.key, "ok", detail={"lifted_s": round(lifted_s)})
        )
    if as_json:
        answer_json({"tenant": tenant.key, "lifted": lifted_s > 0, "remaining_s": round(lifted_s)})
    elif lifted_s:
        say(
            ("Unblocked", "green"),
            f" {tenant.key}: {tenant.server} had asked for no requests for {lifted_s:.0f} s more.",
        )
        say(
            f"If its limit is still used up, it says so again at the next request: `explorer sync {tenant.key} --wait`."
        )
    else:
        say(f"Nothing was blocked: requests for {tenant.key} go out.")
    return 0


def register_partition(settings: Settings, key: str) -> bool:
    """Put the tenant on Dagster's list now; False when Dagster does not run, whose sensor then does it later."""
    return _with_dagster(settings, lambda client: client.add_partition(key))


def describe(store: Store, tenant: Tenant, *, state: str | None) -> dict[str, object]:
    """A tenant as `--json` shows it; no secret, no schema name."""
    row: dict[str, object] = {
        "key": tenant.key,
        "provider": tenant.provider,
        "server": tenant.server,
        "domain": tenant.domain,
        "display_name": tenant.display_name,
        "created_at": tenant.created_at,
    }
    return {**row, "schema_state": state} if state else row


def _with_dagster(settings: Settings, work: Callable[[DagsterClient], Awaitable[object]]) -> bool:
    async def attempt() -> bool:
        async with DagsterClient.from_settings(settings) as client:
            try:
                await work(client)
            except DagsterUnavailable:
                return False
            return True

    return asyncio.run(attempt())


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise SecretMissing(
            f"The variable {variable} is empty or not set.",
            next_step=f"Set it without leaving traces, for instance: read -rs {variable} && export {variable}",
        )
    return value


def _confirm(key: str) -> None:
    if not sys.stdin.isatty():
        raise ConfirmationNeeded(
            f"--purge deletes all tables of {key} for good.",
            next_step="Repeat the command with --yes if that is meant.",
        )
    import typer

    typer.confirm(f"Delete all tables, credentials and metadata of {visible(key)} for good?", abort=True, err=True)
