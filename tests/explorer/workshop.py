"""A tenant with raw tables filled by hand, in the shapes and with the oddities of the API."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connections
from explorer.providers.commcare.structure import Structure
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.tables.engine import Updated, update
from explorer.tables.plan import TablePlan
from tests.conftest import Tenant

PLANNER = CommCareTables()
MODELS = {"case_activity", "form_activity", "data_quality"}
"""Names that belong to dbt models."""

RAW_TABLES = {
    "raw_cases": "case_id text primary key, case_type text, owner_id text, closed boolean, indexed_on timestamptz, "
    "server_last_modified timestamptz",
    "raw_forms": "form_id text primary key, app_id text, received_on timestamptz, server_modified_on timestamptz, "
    "indexed_on timestamptz, archived boolean",
    "raw_users": "user_id text primary key, username text, is_active boolean",
    "raw_web_users": "web_user_id text primary key, username text",
    "raw_groups": "group_id text primary key, name text",
    "raw_locations": "location_id text primary key, site_code text, parent_location_id text",
    "raw_location_types": "location_type_id text primary key, code text",
    "raw_lookup_tables": "lookup_table_id text primary key, tag text",
    "raw_lookup_table_items": "item_id text primary key, data_type_id text",
    "raw_ucr_data_sources": "data_source_id text primary key, display_name text",
    "raw_ucr_rows": "row_id text primary key, data_source_id text, doc_id text, inserted_at timestamptz",
}


@dataclass(frozen=True)
class Workshop:
    """A tenant, and the ways to fill, build and read it."""

    tenant: Tenant
    connections: Connections

    def make_raw(self, *tables: str) -> None:
        """Make the given raw tables as the loader does."""
        with self.tenant.rw.connect() as connection:
            for table in tables:
                connection.execute(
                    sql.SQL(
                        "create table {} ("
                        + RAW_TABLES[table]
                        + ", record jsonb, _run_id text, _loaded_at timestamptz, _page int, "
                        "_content_hash text, _deleted_at timestamptz)"
                    ).format(sql.Identifier(self.tenant.names.schema("raw"), table))
                )

    def add(self, table: str, record: dict[str, Any], *, deleted: bool = False, **keys: Any) -> None:
        """Land one record; `keys` are the loader's key columns."""
        row = {**keys, "record": Jsonb(record)}
        with self.tenant.rw.connect() as connection:
            connection.execute(
                sql.SQL("insert into {} ({}, _loaded_at, _deleted_at) values ({}, clock_timestamp(), {})").format(
                    sql.Identifier(self.tenant.names.schema("raw"), table),
                    sql.SQL(", ").join(map(sql.Identifier, row)),
                    sql.SQL(", ").join(sql.Placeholder() * len(row)),
                    sql.SQL("now()" if deleted else "null"),
                ),
                list(row.values()),
            )

    def add_case(
        self, case_id: str, case_type: str, *, deleted: bool = False, indices: Any = None, **properties: Any
    ) -> None:
        """Land a case of API v2."""
        record = {
            "case_id": case_id,
            "case_type": case_type,
            "case_name": f"name of {case_id}",
            "external_id": None,
            "owner_id": "u1",
            "date_opened": "2024-02-29T10:00:00.123456Z",
            "last_modified": "2024-03-01T00:00:00.000000Z",
            "closed": False,
            "date_closed": None,
            "properties": properties,
            "indices": indices or {},
        }
        self.add(
            "raw_cases", record, deleted=deleted, case_id=case_id, case_type=case_type, owner_id="u1", closed=False
        )

    def add_form(self, form_id: str, xmlns: str, answers: dict[str, Any], *, root: str = "data", **keys: Any) -> None:
        """Land a submission of form API v1; `answers` lie directly in `form`, whatever the XForm's root was called."""
        record = {
            "id": form_id,
            "form": {"#type": root, "@xmlns": xmlns, "@name": "Name at the time", **answers},
            "metadata": {
                "userID": "u1",
                "username": "amina",
                "timeStart": "2024-01-01T08:00:00.000000Z",
                "timeEnd": None,
            },
            "archived": keys.get("archived", False),
        }
        self.add(
            "raw_forms", record, form_id=form_id, received_on="2024-01-01T08:30:00Z", **{"archived": False, **keys}
        )

    @property
    def schemas(self) -> TenantSchemas:
        return TenantSchemas(self.tenant.prefix)

    def plan(self, structure: Structure) -> TablePlan:
        """All tables for these applications and the raw rows so far."""
        with self.tenant.rw.connect() as connection:
            return PLANNER.plan_tables(structure.to_dict(), connection, self.schemas, taken=MODELS)

    def update(self, planned: TablePlan, **arguments: Any) -> Updated:
        """Bring the tables up to date; `arguments` of `engine.update`."""
        return update(
            self.tenant.rw,
            self.schemas,
            planned,
            PLANNER.changed_records,
            **{"run_id": "a run", **arguments},
        )

    def build(self, structure: Structure, **arguments: Any) -> Updated:
        """Plan and update: every table gets up to date."""
        updated = self.update(self.plan(structure), **arguments)
        assert list(updated.failures()) == []
        return updated

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """What the tenant's agents see."""
        with self.tenant.ro.connect() as connection:
            return connection.execute(query.encode()).fetchall()
