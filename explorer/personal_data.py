"""Which columns of a tenant hold personal data, what may agents do with them, and which may their login read?

Every door judges a column by the same rules (`registry.Semantics.personal`). The policy is a tenant's limit `personal_data`, or
the installation's setting. Under `refuse` and `mask` the reader's login has no right to these columns (`postgres.reader_rights`):
`align_reader` gives it the others. It runs at the end of each step that changes tables, and when policy or rules change.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from explorer.catalog import Catalog, PersonalDataPolicy, Tenant
from explorer.catalog.lifecycle.schemas import LIVE
from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping.columns import ColumnFacts
from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import Settings
from explorer.postgres import reader_rights, relations
from explorer.postgres.connections import Connection, Connections, Login
from explorer.registry import Semantics, load_pipelines, load_semantics, parse_semantics


def policy_of(settings: Settings, catalog: Catalog, tenant: Tenant) -> PersonalDataPolicy:
    """The policy in force for a tenant."""
    own = next((each.limits for each in catalog.limits.of(tenant) if each.principal is None), None)
    return (own.personal_data if own else None) or settings.personal_data


def set_policy(
    settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant, policy: PersonalDataPolicy | None
) -> PersonalDataPolicy:
    """Set a tenant's own policy, or lift it; the rights of its agents' login follow at once. Returns the policy in force.

    Raises: LimitInvalid, DatabaseUnreachable, PipelineInvalid, SemanticsInvalid.
    """
    catalog.limits.set(tenant, {"personal_data": policy})
    realign(settings, catalog, connections, tenant)
    return policy_of(settings, catalog, tenant)


def realign(settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant) -> bool:
    """`align_reader` where the tenant has schemas, beside whoever is writing them. Returns whether anything changed."""
    schema = catalog.schemas.get(tenant)
    if schema.state not in LIVE:
        return False
    login = catalog.schemas.rw_login(tenant)
    with connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        return align_reader(settings, catalog, connections, tenant, schema, connection)


def saved_models_database(catalog: Catalog, connections: Connections, tenant: Tenant) -> Login | None:
    """The database as the login of the tenant's saved models; None before the first one.

    Raises: SchemaAbsent, KeyringMismatch.
    """
    login = catalog.schemas.saved_login(tenant)
    return connections.tenant(login.user, login.password) if login is not None else None


def semantics_of(settings: Settings, catalog: Catalog, tenant: Tenant) -> Semantics:
    """The semantics of the tenant's pipelines with its own on top. Raises: PipelineInvalid, SemanticsInvalid."""
    folder = settings.project_dir / "pipelines"
    found = Semantics()
    for pipeline in load_pipelines(folder).values():
        if pipeline.provider == tenant.provider:
            found = found.under(load_semantics(folder, pipeline))
    own = catalog.semantics.latest(tenant)
    return found.under(parse_semantics(own.content)) if own else found


def reason(semantics: Semantics, relation: str, column: str, type_: str, facts: ColumnFacts) -> str | None:
    """Why a column is personal data; None where it is not. A column of a saved model is what it is made of."""
    if told := facts.get("tells"):
        return f"It tells {', '.join(told[:3])}."
    label = facts.get("label")
    labels = [*([label] if label else []), *facts.get("translations", {}).values()]
    return semantics.personal(relation, column, type_, labels, facts.get("question_type"))


def personal_columns(
    semantics: Semantics, columns: relations.Columns, facts: Mapping[str, Mapping[str, ColumnFacts]]
) -> dict[str, dict[str, str]]:
    """Why columns are personal data, by relation and column. `facts`: what the applications say of the columns, by relation."""
    found: dict[str, dict[str, str]] = {}
    for of_schema in columns.values():
        for relation, live in of_schema.items():
            known = facts.get(relation, {})
            for column, type_ in live:
                why = reason(semantics, relation, column, type_, known.get(column, {}))
                if why is not None:
                    found.setdefault(relation, {})[column] = why
    return found


def align_reader(
    settings: Settings,
    catalog: Catalog,
    connections: Connections,
    tenant: Tenant,
    schemas: TenantSchemas,
    connection: Connection,
) -> bool:
    """Give the login of the tenant's agents exactly the columns that its policy allows. Returns whether anything changed.

    `connection`: of the tenant's rw login, in autocommit mode. Raises: PipelineInvalid, SemanticsInvalid: nothing is changed.
    """
    with ExitStack() as stack:
        owners = [(connection, [schemas.marts, schemas.raw])]
        saved = saved_models_database(catalog, connections, tenant)
        if saved is not None:
            owners.append((stack.enter_context(saved.connect(autocommit=True)), [schemas.saved]))
        if policy_of(settings, catalog, tenant) == "mark":
            return any([reader_rights.open_all(owner, schemas, places) for owner, places in owners])
        hidden = _hidden(settings, catalog, tenant, schemas, connection)
        return any([reader_rights.withhold(owner, schemas, places, hidden) for owner, places in owners])


def _hidden(
    settings: Settings, catalog: Catalog, tenant: Tenant, schemas: TenantSchemas, connection: Connection
) -> dict[str, set[str]]:
    columns = relations.columns(connection, [schemas.marts, schemas.raw, schemas.saved])
    names: Sequence[str] = [name for of_schema in columns.values() for name in of_schema]
    facts = column_records.read(connection, schemas, names)
    personal = personal_columns(semantics_of(settings, catalog, tenant), columns, facts)
    return {name: set(found) for name, found in personal.items()}
