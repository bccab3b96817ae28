"""Which tables does a garden get? One per resource, the same for all gardens."""

from collections.abc import Collection, Mapping
from typing import Any

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.plan import NoTables, TablePlan
from explorer.tables.values import ColumnSpec, Parent, Rows, TableSpec

_PLANTS = TableSpec(
    "plants",
    "mart",
    "plants",
    "One row per plant.",
    (
        ColumnSpec("plant_id", "bigint", "Identifier of the plant.", text="id"),
        ColumnSpec("name", "text", "Name of the plant."),
        ColumnSpec(
            "height_cm",
            "bigint",
            "Height in centimetres.",
            path=("height_cm",),
            text="(record ->> 'height_cm')::bigint",
        ),
    ),
    # Its key has another name than the record's, so it is always built as a whole.
    Rows(None, queries=(("present", "select * from raw_plants where _deleted_at is null"),)),
    ("plant_id",),
    frozenset({"raw_plants"}),
)
_VISITS = TableSpec(
    "visits",
    "mart",
    "visits",
    "One row per recorded visit; equal ones count.",
    (
        ColumnSpec("visit_key", "text", "Made from the visit's content and its number among equal ones."),
        ColumnSpec("plant_id", "bigint", "The plant."),
        ColumnSpec("day", "date", "Day of the visit.", path=("day",), text="(record ->> 'day')::date"),
        ColumnSpec("note", "text", "What was done.", path=("note",), text="record ->> 'note'"),
    ),
    Rows("raw_visits", key="visit_key", where="_deleted_at is null"),
    ("visit_key",),
    frozenset({"raw_visits"}),
    parents=(Parent(["plant_id"], "plants", "plant_id"),),
)


class TinyTables(NoTables):
    """The provider's planner."""

    fixed = (_PLANTS, _VISITS)

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        return TablePlan(self.fixed)
