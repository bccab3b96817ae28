"""What do a tenant's tables hold, in sum? Read from their records when a run has written them, and kept in the catalog, so that
one statement tells it of all tenants.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from psycopg import sql

from explorer.contract.bookkeeping.definitions import BUILDS, LOADS, Connection, Schemas
from explorer.contract.bookkeeping.versions import is_there

_SUMS = """\
SELECT count(*) AS tables, coalesce(sum(rows), 0)::bigint AS rows, count(*) FILTER (WHERE findings <> '[]') AS failing,
  (SELECT min(updated_at) FROM {loads}) AS read_at, (SELECT max(updated_at) FROM {loads}) AS asked_at
  FROM {builds}"""


@dataclass(frozen=True)
class Holdings:
    """`tables`: with their `rows`, without raw ones; `failing`: tables with a check that fails. `read_at`: all that they are made
    from was read since; `asked_at`: when the tenant's server was last asked."""

    tables: int
    rows: int
    failing: int
    read_at: datetime | None
    asked_at: datetime | None

    def as_object(self) -> dict[str, Any]:
        """As the catalog keeps it."""
        return {
            "tables": self.tables,
            "rows": self.rows,
            "failing": self.failing,
            "read_at": self.read_at.isoformat() if self.read_at else None,
            "asked_at": self.asked_at.isoformat() if self.asked_at else None,
        }

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> Self:
        """What `as_object` gave."""
        read_at, asked_at = (
            datetime.fromisoformat(found[name]) if found[name] else None for name in ("read_at", "asked_at")
        )
        return cls(found["tables"], found["rows"], found["failing"], read_at, asked_at)


def read(connection: Connection, schemas: Schemas) -> Holdings | None:
    """The sums now; None where nothing was loaded or built yet. The connection needs no right to write."""
    builds, loads = sql.Identifier(schemas.staging, BUILDS), sql.Identifier(schemas.raw, LOADS)
    if not (is_there(connection, builds) and is_there(connection, loads)):
        return None
    row = connection.execute(sql.SQL(_SUMS).format(builds=builds, loads=loads)).fetchone()
    return Holdings(*row) if row is not None else None
