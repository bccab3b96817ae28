"""`explorer tenants`: calls `explorer.tenants` and keeps Dagster's partitions equal to the tenants."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from explorer.catalog import OPERATOR, AuditEntry, Credential, Tenant
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.core.settings import Settings
from explorer.providers import faults_of, provider_named
from explorer.providers.base import CredentialKind, Provider, make_credential
from explorer.registry import load_pipelines
from explorer.tenants import add_tenant, remove_tenant
from explorer_cli.errors import ConfirmationNeeded, SecretMissing, UsageInvalid
from explorer_cli.operations.tenants import quotas
from explorer_cli.operations.tenants.schedules import in_words, turns_of
from explorer_cli.output.escapes import visible
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable

# Fields of credentials with options of their own; --credential FIELD=VAR gives all others.
_OPTIONS = {
    "username": "--username",
    "api_key": "--api-key-env",
    "client_id": "--oauth-client-id",
    "client_secret": "--oauth-client-secret-env",
    "refresh_token": "--oauth-refresh-token-env",
    "token_url": "--oauth-token-url",
}


@dataclass(frozen=True)
class CredentialOptions:
    """The credential as options of the command line: visible values, and names of environment variables that hold secrets, both
    by the name of the credential's field."""

    values: Mapping[str, str]
    variables: Mapping[str, str]

    @classmethod
    def parse(
        cls, values: Mapping[str, str | None], variables: Mapping[str, str | None], more: Sequence[str]
    ) -> "CredentialOptions":
        """Make it from the command's options; each of `more` is `FIELD=VARIABLE`.

        Raises:
            UsageInvalid: one of `more` has another form.
        """
        named = {}
        for text in more:
            name, sign, variable = text.partition("=")
            if not (name and sign and variable):
                raise UsageInvalid(
                    f"{text.partition('=')[0]!r} does not say which variable holds it.",
                    next_step="Write --credential FIELD=VARIABLE; the value itself stays in the variable.",
                )
            named[name] = variable
        given = {name: value for name, value in values.items() if value}
        return cls(given, {name: value for name, value in variables.items() if value} | named)

    def read(self, provider: Provider, server: str) -> Credential:
        """Read the credential from the environment.

        Raises:
            UsageInvalid: the fields match no kind of the provider's credentials, or several.
            SecretMissing: a variable is empty or not set.
            ServerInvalid: the server's address cannot be used.
        """
        names = {*self.values, *self.variables}
        if not any(kind.accepts(names) for kind in provider.credential_kinds):
            meant = [kind for kind in provider.credential_kinds if _is_meant(kind, names)]
            raise UsageInvalid(
                "The credential is not complete." if len(meant) == 1 else "One kind of credential is needed.",
                next_step=f"Give {', or '.join(map(_wanted, provider.credential_kinds))}.",
            )
        secrets = {name: _secret(variable) for name, variable in self.variables.items()}
        return make_credential(provider, provider.normalize_server(server), {**self.values, **secrets})


def _is_meant(kind: CredentialKind, names: set[str]) -> bool:
    """Whether a field that identifies the kind was given; a field that is always optional identifies none."""
    return any(field.name in names for field in kind.fields if field.needed_unless != "")


def _wanted(kind: CredentialKind) -> str:
    """The options of a credential: `--a and --b (and --c, unless it is public)`."""
    required = " and ".join(_option(field.name) for field in kind.fields if field.is_required)
    more = [f" (and {_option(f.name)}, unless {f.needed_unless})" for f in kind.fields if f.needed_unless]
    return required + "".join(more)


def _option(field: str) -> str:
    return _OPTIONS.get(field) or f"--credential {field}=VARIABLE"


def chosen_provider(settings: Settings, name: str | None) -> Provider:
    """The provider of this name; without a name, the one provider that all pipelines share.

    Raises:
        UsageInvalid: several providers have pipelines.
        UnknownProvider, PipelineInvalid.
    """
    if name is not None:
        return provider_named(name)
    pipelines = load_pipelines(settings.project_dir / "pipelines", faults_of)
    names = sorted({pipeline.provider for pipeline in pipelines.values()})
    if len(names) > 1:
        raise UsageInvalid(
            "There are pipelines of several providers.", next_step=f"Give --provider, one of: {', '.join(names)}."
        )
    return provider_named(names[0])


def add(
    key: str, *, provider_name: str | None, server: str, external_id: str, options: CredentialOptions, as_json: bool
) -> int:
    """Verify access, create the tenant and, when Dagster runs, register its partition."""
    settings = open_settings()
    provider = chosen_provider(settings, provider_name)
    credential = options.read(provider, server)
    with open_store(settings) as store:
        tenant = add_to(store, provider, key, server=server, external_id=external_id, credential=credential)
        registered = register_partition(settings, tenant.key)
    if as_json:
        answer_json({"tenant": describe(store, tenant, state=None), "partition_registered": registered})
        return 0
    say(("Added", "green"), f" {tenant.key}: {tenant.display_name} on {tenant.server}.")
    later = "" if registered else " (once `explorer up` runs)"
    say(f"Load it with `explorer sync {tenant.key} --wait`{later}.")
    return 0


def add_to(
    store: Store, provider: Provider, key: str, *, server: str, external_id: str, credential: Credential
) -> Tenant:
    """Call `add_tenant` on this store. Raises its errors."""
    return add_tenant(
        store.settings, store.catalog, store.connections, provider, key=key, server=server, external_id=external_id,
        credential=credential,
    )  # fmt: skip


def show_list(*, as_json: bool) -> int:
    """Show all tenants with the state of their schemas, their next turns, and what holds them back."""
    settings = open_settings()
    with open_store(settings) as store:
        tenants = store.catalog.tenants.list()
        schemas = store.catalog.schemas.of([tenant.id for tenant in tenants])
        turns = turns_of(store, tenants)
        use = store.catalog.quotas.use([tenant.id for tenant in tenants])
        rows = [
            {
                **describe(store, tenant, state=str(schemas[tenant.id].state)),
                "syncs": turns[tenant.id],
                "quota": quotas.as_object(use[tenant.id]),
                "expired_at": schemas[tenant.id].expired_at,
            }
            for tenant in tenants
        ]
    if as_json:
        answer_json({"tenants": rows})
    else:
        columns = ("key", "display_name", "server", "domain", "schema_state", "created_at")
        show_table(
            ("Key", "Name", "Server", "Project space", "Schema", "Added", "Next turn"),
            [
                [
                    *(row[column] for column in columns),
                    _unused(row["expired_at"]) or quotas.in_words(use[tenant.id]) or in_words(row["syncs"]),
                ]
                for tenant, row in zip(tenants, rows, strict=True)
            ],
            empty="No tenants yet. `explorer tenants add --help` tells how to add one; `explorer demo` adds two invented ones.",
        )
    return 0


def _unused(expired_at: object) -> str:
    return f"dropped {expired_at:%Y-%m-%d}, nobody asked; a sync builds it" if expired_at is not None else ""


def remove(key: str, *, purge: bool, yes: bool, as_json: bool) -> int:
    """Remove a tenant and its Dagster partition."""
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
    """End the pause that a server asked for. Audited, because the server may block a client that ignores it."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        with closing(RequestSlots(store.connections.service, tenant.server, tenant.external_id)) as slots:
            lifted_s = slots.lift()
        held = store.catalog.syncs.lift(tenant)
        store.catalog.audit.append(
            AuditEntry(OPERATOR, "unblock", tenant.key, "ok", detail={"lifted_s": round(lifted_s), "held": held})
        )
    if as_json:
        answer_json(
            {"tenant": tenant.key, "lifted": lifted_s > 0, "remaining_s": round(lifted_s), "was_held_back": held > 0}
        )
    elif lifted_s:
        say(
            ("Unblocked", "green"),
            f" {tenant.key}: {tenant.server} had asked for no requests for {lifted_s:.0f} s more.",
        )
        say(
            f"If its limit is still used up, it says so again at the next request: `explorer sync {tenant.key} --wait`."
        )
    elif held:
        say(("Unblocked", "green"), f" {tenant.key}: its schedule starts runs again, although the last ones failed.")
    else:
        say(f"Nothing was blocked: requests for {tenant.key} go out.")
    return 0


def register_partition(settings: Settings, key: str) -> bool:
    """Register the tenant's partition now; False when Dagster does not run: its sensor then does it later."""
    return register_partitions(settings, [key])


def register_partitions(settings: Settings, keys: Sequence[str]) -> bool:
    """The same for many."""

    async def add_all(client: DagsterClient) -> None:
        for key in keys:
            await client.add_partition(key)

    return _with_dagster(settings, add_all)


def describe(store: Store, tenant: Tenant, *, state: str | None) -> dict[str, object]:
    """A tenant as `--json` shows it, without secrets and schema names."""
    row: dict[str, object] = {
        "key": tenant.key,
        "provider": tenant.provider,
        "server": tenant.server,
        "domain": tenant.external_id,
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
