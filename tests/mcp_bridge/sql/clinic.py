"""The tenant that runs the SQL tests' statements, and the ways to run one."""

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg

from explorer.postgres.connections import Login
from mcp_bridge.sql import Executor, QueryLimits, QueryResult, ValidatedQuery, validate

RELATIONS = {
    "patients": ("patient_id", "full_name", "born", "district", "mother_id", "tags"),
    "visits": ("visit_id", "patient_id", "seen_at", "urgency", "weight_kg", "answers"),
    "Odd Name": ("select", "Weird Col", "region", "version"),
    "v_monthly": ("month", "visits"),
}
OWN_TYPES = frozenset({"urgency"})


@dataclass(frozen=True)
class Clinic:
    """The asking tenant: its names, its reader, and the rival's prefix."""

    own: str
    rival: str
    reader: Login
    owner: Login
    admin: Login

    @property
    def schema(self) -> str:
        return f"{self.own}_marts"

    def fill(self, statement: str) -> str:
        return statement.replace("{own}", self.own).replace("{rival}", self.rival)

    def validate(self, statement: str) -> ValidatedQuery:
        return validate(
            statement, schemas=frozenset({self.schema}), relations={self.schema: RELATIONS}, own_types=OWN_TYPES
        )

    def executor(self, **limits: Any) -> Executor:
        return Executor(self.reader, (self.schema,), QueryLimits(**limits))

    def run(self, statement: str, *, offset: int = 0, **limits: Any) -> QueryResult:
        return asyncio.run(self._once(self.validate(statement), offset, **limits))

    def run_unvalidated(self, statement: str, **limits: Any) -> QueryResult:
        """What the executor and the database do when the validator has a hole."""
        return asyncio.run(self._once(ValidatedQuery(statement, frozenset()), 0, **limits))

    async def _once(self, query: ValidatedQuery, offset: int, **limits: Any) -> QueryResult:
        executor = self.executor(**limits)
        try:
            return await executor.run(query, offset=offset)
        finally:
            executor.close()

    def raw(self, statement: str) -> list[tuple[Any, ...]]:
        """The same statement as the same reader, on a plain connection."""
        with psycopg.connect(
            **self.reader.conninfo(), options=f"-c search_path={self.schema} -c timezone=UTC", autocommit=True
        ) as conn:
            return conn.execute(statement.encode()).fetchall()
