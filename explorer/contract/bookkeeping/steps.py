"""How did each step of each run of a tenant end, how long did it take, and what did it bring?

A row per run and step, written when the step ends, beside the tables: it is there as long as it is kept, without Dagster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, RUN_CHANGES, STEPS, Connection, Schemas
from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.bookkeeping.versions import is_there, upgrade

Step = Literal["discovery", "loading", "tables", "dbt", "saved_models"]
# In the order in which a run does them.
STEPS_IN_ORDER: tuple[Step, ...] = ("discovery", "loading", "tables", "dbt", "saved_models")
Outcome = Literal["done", "failed", "stopped"]


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step brought.

    `structure`: of discovery, the version of the structure; `news`: what is new in it. `sources`: of loading, the records that
    differ, by source, without sources that had none. `built`, `applied`: numbers of tables or models that were made anew as a
    whole, and into which changes were taken; `failed`: sources or tables with the reason. `full`: everything was done again.
    """

    structure: int | None = None
    news: str | None = None
    sources: dict[str, RowCounts] = {}
    built: int = 0
    applied: int = 0
    failed: dict[str, str] = {}
    full: bool = False


@dataclass(frozen=True)
class StepRecord:
    """A step of a run. `outcome`: `stopped` where it was cancelled; `facts`: what it did until then."""

    run_id: str
    step: Step
    began_at: datetime
    seconds: float
    outcome: Outcome
    facts: Facts


@dataclass(frozen=True)
class RunSpan:
    """A run that left a record, from its first step to the last thing that it wrote."""

    run_id: str
    began_at: datetime
    ended_at: datetime


def write(
    connection: Connection, schemas: Schemas, run_id: str, step: Step, *, seconds: float, outcome: Outcome, facts: Facts
) -> None:
    """Store how a step ended just now, after so many seconds. A step that is tried again replaces its first attempt."""
    upgrade(connection, schemas.staging, IN_STAGING)
    # By the database's clock, as the records of changes: workers of a tenant's runs may be on several machines.
    connection.execute(
        sql.SQL(
            "insert into {} values (%s, %s, clock_timestamp() - %s * interval '1 second', %s, %s, %s)"
            " on conflict (run_id, step) do update set began_at = excluded.began_at, seconds = excluded.seconds,"
            " outcome = excluded.outcome, facts = excluded.facts"
        ).format(_place(schemas)),
        [run_id, step, seconds, seconds, outcome, msgspec.json.encode(facts).decode()],
    )


def forget(connection: Connection, schemas: Schemas, before: datetime) -> None:
    """Delete the steps that began earlier."""
    connection.execute(sql.SQL("delete from {} where began_at < %s").format(_place(schemas)), [before])


def runs(connection: Connection, schemas: Schemas) -> list[RunSpan]:
    """The runs that left a record and are not forgotten, newest first; none where only an earlier version of the platform ran.
    The connection needs no right to write."""
    if not is_there(connection, _place(schemas)):
        return []
    query = sql.SQL(
        "select run_id, min(began), max(ended) from (select run_id, began_at, began_at + seconds * interval '1 second' from {}"
        " union all select run_id, at, at from {}) as moments (run_id, began, ended) group by run_id order by 2 desc, 3 desc"
    ).format(_place(schemas), sql.Identifier(schemas.staging, RUN_CHANGES))
    return [RunSpan(*row) for row in connection.execute(query)]


def read(connection: Connection, schemas: Schemas, run_ids: Sequence[str]) -> Mapping[str, Mapping[Step, StepRecord]]:
    """The steps of these runs in order, by run. The connection needs no right to write."""
    query = sql.SQL(
        "select run_id, step, began_at, seconds, outcome, facts from {} where run_id = any(%s) order by began_at"
    ).format(_place(schemas))
    found: dict[str, dict[Step, StepRecord]] = {run_id: {} for run_id in run_ids}
    for run_id, step, began, seconds, outcome, facts in connection.execute(query, [list(run_ids)]):
        found[run_id][step] = StepRecord(run_id, step, began, seconds, outcome, msgspec.convert(facts, Facts))
    return found


def last_seconds(connection: Connection, schemas: Schemas, *, full: bool = False) -> dict[Step, float]:
    """How long each step took when it was last done; of runs that did everything again or that did not, as `full` says, where
    there is one. The connection needs no right to write."""
    if not is_there(connection, _place(schemas)):
        return {}
    query = sql.SQL(
        "select distinct on (step) step, seconds from {} where outcome = 'done'"
        " order by step, coalesce((facts ->> 'full')::boolean, false) = %s desc, began_at desc"
    )
    return dict(connection.execute(query.format(_place(schemas)), [full]).fetchall())


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, STEPS)
