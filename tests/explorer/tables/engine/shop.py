"""A tenant of an artificial source: items of a shop, their owners, and tables of each kind that the engine builds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping.builds import Build
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.engine import Updated, is_current, update
from explorer.tables.plan import ChangedRecords, TablePlan
from explorer.tables.select import unfit_column
from explorer.tables.values import ColumnSpec, Parent, Rows, TableSpec
from tests.conftest import Tenant

KINDS = ("book", "tool")
_LOST = "{column} is null and {text} is not null"
_RECORD = ", record jsonb, _loaded_at timestamptz not null default clock_timestamp(), _deleted_at timestamptz)"
_RAW = {
    "raw_owners": "(owner_id text primary key" + _RECORD,
    "raw_items": "(item_id text primary key, kind text, owner_id text" + _RECORD,
}
_KEY = {"raw_owners": "owner_id", "raw_items": "item_id"}


def column(name: str, kind: str = "text", **more: Any) -> ColumnSpec:
    return ColumnSpec(name, kind, f'The {name}: it\'s "so".', **more)


def number(name: str) -> ColumnSpec:
    """A typed column that reports values which are no number."""
    text, lost = f"record ->> '{name}'", _LOST.replace("{column}", f'"{name}"')
    return column(name, "bigint", text=text, cast="casts.safe_bigint({text})", unfit=lost)


OWNERS = TableSpec(
    "owners", "owner", "owners", "One row per owner.",
    (column("owner_id"), column("name", text="record ->> 'name'")),
    Rows("raw_owners", "owner_id", "_deleted_at is null"), ("owner_id",), frozenset({"raw_owners"}),
)  # fmt: skip
ITEMS = TableSpec(
    "items", "item", "items", "One row per item.",
    (
        column("item_id"), column("kind"), column("owner_id"), column("owner_name"), number("size"),
        column("record", "jsonb"), unfit_column("record"),
    ),
    Rows("raw_items", "item_id", "_deleted_at is null", (
        ("named", "select source.*, owners.name as owner_name from source left join owners using (owner_id)"),
    )),
    ("item_id",), frozenset({"raw_items", "raw_owners"}), reads=("owners",), indexes=("owner_id",),
    parents=(Parent(("owner_id",), "owners", "owner_id"),),
)  # fmt: skip


def of_kind(kind: str) -> TableSpec:
    """The items of one kind; `part_of` refers to another item."""
    return TableSpec(
        f"item_{kind}", "item_kind", kind, f"One row per {kind}.",
        (column("item_id"), column("part_of", text="record ->> 'part_of'"), number("size"), unfit_column("items.record")),
        Rows("items", "item_id", f"kind = '{kind}'"), ("item_id",), frozenset({"raw_items"}), reads=("items",), group=kind,
        parents=(Parent(("part_of",), "items", "item_id"),),
    )  # fmt: skip


PARTS = TableSpec(
    "parts", "part", "parts", "One row per part of an item.",
    (column("item_id"), column("position", "bigint"), column("part")),
    Rows("items", "item_id", "", (
        ("parts", "select item_id, position, part from source cross join jsonb_array_elements_text(record -> 'parts')"
                  " with ordinality as each (part, position)"),
    )),
    ("item_id", "position"), frozenset({"raw_items"}), reads=("items",), parents=(Parent(("item_id",), "items", "item_id"),),
)  # fmt: skip
COUNTS = TableSpec(
    "counts", "count", "counts", "One row per owner with items.",
    (column("owner_id"), column("items", "bigint")),
    Rows(None, queries=(("counted", "select owner_id, count(*) as items from items group by 1"),)),
    ("owner_id",), frozenset({"raw_items", "raw_owners"}), reads=("items",),
)  # fmt: skip
TABLES = (OWNERS, ITEMS, *map(of_kind, KINDS), PARTS, COUNTS)
NAMES = tuple(table.name for table in TABLES)
CHANGED = (
    ChangedRecords(
        "item_id", "raw_items",
        "select item_id, changed.kind, items.kind as previous_kind from changed left join items using (item_id)",
    ),
    ChangedRecords(
        "item_id", "raw_owners",
        "select items.item_id, items.kind, items.kind as previous_kind from changed join items using (owner_id)",
    ),
)  # fmt: skip


@dataclass
class Shop:
    """A tenant with raw tables, and the ways to change, update and read it."""

    tenant: Tenant
    tables: Sequence[TableSpec] = TABLES
    said: list[str] = field(default_factory=list)
    run: int = 0

    @property
    def schemas(self) -> TenantSchemas:
        return self.tenant.names

    def connect(self) -> Connection:
        return self.tenant.rw.connect(autocommit=True)

    def execute(self, statement: str, *values: Any) -> None:
        """`raw.`, `marts.` and `staging.` stand for the tenant's schemas."""
        with self.connect() as connection:
            connection.execute(self._named(statement), values or None)

    def make_raw(self, *names: str) -> None:
        for name in names or _RAW:
            self.execute(f"create table raw.{name} {_RAW[name]}")

    def put(self, table: str, key: str, record: dict[str, Any], **keys: Any) -> None:
        """Land a record: it came, changed, or came back."""
        row = {_KEY[table]: key, **keys, "record": Jsonb(record)}
        query = sql.SQL(
            "insert into {table} ({columns}) values ({values}) on conflict ({key}) do update"
            " set ({columns}, _loaded_at, _deleted_at) = ({values}, clock_timestamp(), null)"
        ).format(
            table=sql.Identifier(self.schemas.raw, table),
            columns=sql.SQL(", ").join(map(sql.Identifier, row)),
            values=sql.SQL(", ").join(map(sql.Literal, row.values())),
            key=sql.Identifier(_KEY[table]),
        )
        with self.connect() as connection:
            connection.execute(query)

    def put_item(self, key: str, kind: str = "book", owner: str = "o1", **record: Any) -> None:
        self.put("raw_items", key, record, kind=kind, owner_id=owner)

    def take(self, table: str, key: str) -> None:
        """Mark a record as deleted."""
        self.execute(f"update raw.{table} set _deleted_at = clock_timestamp() where {_KEY[table]} = %s", key)

    def update(self, **arguments: Any) -> Updated:
        self.run += 1
        self.said.clear()
        return update(
            self.tenant.rw, self.schemas, TablePlan(tuple(self.tables)), CHANGED,
            **{"run_id": f"run {self.run}", "on_plan": self.said.append, **arguments},
        )  # fmt: skip

    def is_current(self) -> bool:
        return is_current(self.tenant.rw, self.schemas, TablePlan(tuple(self.tables)))

    def with_table(self, changed: TableSpec) -> "Shop":
        """The same tenant with another definition of this table."""
        return replace(self, tables=[changed if table.name == changed.name else table for table in self.tables])

    def builds(self) -> dict[str, Build]:
        with self.connect() as connection:
            return build_records.read(connection, self.schemas)

    def rows(self, names: Iterable[str] = NAMES) -> dict[str, list[Any]]:
        """The rows of each table, as agents see them."""
        query = "select coalesce(jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text), '[]') from {} t"
        with self.tenant.ro.connect() as connection:
            return {name: connection.execute(query.format(name).encode()).fetchall()[0][0] for name in names}

    def read(self, query: str) -> list[tuple[Any, ...]]:
        with self.tenant.ro.connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def _named(self, statement: str) -> bytes:
        for layer in ("raw", "marts", "staging"):
            statement = statement.replace(f"{layer}.", f"{self.schemas.prefix}_{layer}.")
        return statement.encode()
