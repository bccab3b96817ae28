"""Carries out what was asked of the provisioning job. Needs the administrator's login.

Safe to repeat: a request that has ended is left alone, and one that a dead worker took up is done again from the start.
"""

import logging
from collections.abc import Mapping
from uuid import UUID

from explorer.catalog.audit.log import AuditEntry
from explorer.catalog.catalog import Catalog
from explorer.catalog.errors import CredentialInvalid, ExternalIdTaken, TenantExists, TenantKeyRetired
from explorer.catalog.lifecycle.provisioning import FOLLOWS, TENANT_REGISTERED, ProvisioningKind, ProvisioningRequest
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.http.errors import ApiError
from explorer.postgres.connections import Connections
from explorer.providers import faults_of, provider_named
from explorer.registry import load_pipelines
from explorer.tenants import add_tenant, provision_saved_models, provision_schema, teardown_schema
from explorer.workspaces import align

_NAME_TAKEN = (TenantExists, ExternalIdTaken, TenantKeyRetired)
_DOES = {
    ProvisioningKind.PROVISION: provision_schema,
    ProvisioningKind.TEARDOWN: teardown_schema,
    ProvisioningKind.SAVED_MODELS: provision_saved_models,
}

log = logging.getLogger(__name__)


def carry_out(settings: Settings, catalog: Catalog, connections: Connections, id_: UUID, *, run_id: str) -> str:
    """Do what request `id_` asks for, in run `run_id`; returns a sentence on what was done. How it ended is in the request, and
    in the audit trail under the name of who asked.

    Raises:
        ExplorerError: it could not be done; or whatever else failed. The request has failed too.
    """
    request = catalog.provisioning.begin(id_, run_id)
    if request is None:
        return f"Request {id_} was done already."
    try:
        sentence = _done(settings, catalog, connections, request)
    except Exception as error:
        failure = _told(error, for_people=request.kind is ProvisioningKind.REGISTER)
        try:
            _record(catalog, request, run_id, failure["code"])
        finally:
            catalog.provisioning.end(id_, failure)
        raise
    _record(catalog, request, run_id, None)
    catalog.provisioning.end(id_, None)
    return sentence


def _done(settings: Settings, catalog: Catalog, connections: Connections, request: ProvisioningRequest) -> str:
    if request.place is not None:
        return _registered(settings, catalog, connections, request, request.place)
    if request.kind is ProvisioningKind.WORKSPACE:
        return _aligned(catalog, connections, UUID(request.tenant_key))
    tenant = catalog.tenants.get(request.tenant_key)
    schema = _DOES[request.kind](settings, catalog, connections, tenant)
    return f"{request.kind.value} of {tenant.key} for {request.actor}: its schemas are {schema.state.value} now."


def _aligned(catalog: Catalog, connections: Connections, id_: UUID) -> str:
    workspace = catalog.workspaces.by_id(id_)
    if workspace is None:
        return f"Workspace {id_} is gone already."
    align(catalog, connections, [workspace])
    return f"The login of workspace {id_} has the rights that it may have."


def _registered(
    settings: Settings,
    catalog: Catalog,
    connections: Connections,
    request: ProvisioningRequest,
    place: Mapping[str, str],
) -> str:
    """Make the tenant, unless a worker that died had done it, and let it follow schedules as the person chose. One that was there
    before they asked stays as it is."""
    provider, server, external_id = _in_order(place)
    # Read first: a fault in the files leaves nothing half done.
    pipelines = load_pipelines(settings.project_dir / "pipelines", faults_of).values()
    for tenant in catalog.tenants.list():
        if (tenant.key, tenant.provider, tenant.server, tenant.external_id) == (request.tenant_key, *_in_order(place)):
            if tenant.created_at < request.asked_at:
                return f"{tenant.key} was registered already."
            break
    else:
        tenant = add_tenant(
            settings, catalog, connections, provider_named(provider), key=request.tenant_key, server=server,
            external_id=external_id, credential=catalog.provisioning.credential(request),
        )  # fmt: skip
    chosen = FOLLOWS[place.get("follows", "usual")]
    for pipeline in pipelines:
        if chosen and pipeline.provider == provider and pipeline.schedule is not None:
            catalog.syncs.configure(tenant, pipeline.name, chosen, actor=request.actor)
    return f"{tenant.key} was registered for {request.actor}."


def _in_order(place: Mapping[str, str]) -> tuple[str, str, str]:
    return place["provider"], place["server"], place["external_id"]


def _record(catalog: Catalog, request: ProvisioningRequest, run_id: str, code: str | None) -> None:
    detail = {"kind": request.kind.value, "run_id": run_id, "request": str(request.id)}
    outcome = "ok" if code is None else "error"
    action = TENANT_REGISTERED if request.kind is ProvisioningKind.REGISTER else "provisioning"
    key: str | None = request.tenant_key
    if request.kind is ProvisioningKind.WORKSPACE:
        key, detail["workspace"] = None, request.tenant_key
    catalog.audit.append(AuditEntry(request.actor, action, key, outcome, code, detail))


def _told(error: Exception, *, for_people: bool) -> dict[str, str]:
    """The error for who asked. People on a page read of what they gave and of their server, and nothing of other tenants."""
    if isinstance(error, ApiError | CredentialInvalid) or (isinstance(error, ExplorerError) and not for_people):
        return {"code": error.code, "message": error.message, "next_step": error.next_step}
    log.exception("What was asked of the provisioning job failed")
    if isinstance(error, _NAME_TAKEN):
        return {
            "code": "registration_refused",
            "message": "It could not be registered under its own name.",
            "next_step": "Ask the operator of this installation.",
        }
    return {
        "code": "internal_error",
        "message": f"The provisioning job failed: {type(error).__name__}.",
        "next_step": "Try once more; if it happens again, the run's log has the cause.",
    }
