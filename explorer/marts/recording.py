"""What is written down beside the tables after dbt ran? What its tests found, and from which columns models are computed.

The models' own records are written by the project's hook, in the transaction of each.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping import dbt_tests as test_records
from explorer.contract.bookkeeping.builds import Build, Finding
from explorer.contract.bookkeeping.dbt_tests import TestRecord
from explorer.marts import lineage
from explorer.marts.command import TenantDbt
from explorer.marts.manifest import Models
from explorer.marts.planning import State, ages, gone, seen_by
from explorer.marts.results import SKIPPED, SUCCESS, NodeResult
from explorer.postgres.connections import Connection
from explorer.postgres.relations import Columns, columns

# What a test says that could find it out.
_FOUND = frozenset({"pass", "warn", "fail"})


@dataclass(frozen=True)
class Recorded:
    """What is known after dbt ran: of all tests and builds, and the columns of all relations."""

    tests: Mapping[str, TestRecord]
    builds: Mapping[str, Build]
    columns: Columns


def record(
    connection: Connection,
    dbt: TenantDbt,
    models: Models,
    state: State,
    ran: Iterable[NodeResult],
    *,
    version: str,
    run_id: str,
) -> Recorded:
    """Store what the tests among `ran` found and the models' lineage, and forget models and tests that the project no longer has.

    `state`: the tenant's, read before dbt ran or after; builds, which dbt's hook writes, are read again. `version`: of the
    models, which marks their lineage.
    """
    now = replace(state, builds=build_records.read(connection, dbt.schemas))
    tests = _record_tests(connection, dbt, models, now, ran, run_id)
    build_records.forget(connection, dbt.schemas, gone(models, now))
    found = columns(connection, dbt.schemas.schemas)
    lineage.write(connection, dbt.schemas, models, found, dbt.folder / "target", version=version)
    return Recorded(tests, build_records.read(connection, dbt.schemas), found)


def version_of(definitions: Mapping[str, str]) -> str:
    """The version of models with these `definitions`."""
    return hashlib.sha256(repr(sorted(definitions.items())).encode()).hexdigest()


def _record_tests(
    connection: Connection, dbt: TenantDbt, models: Models, now: State, ran: Iterable[NodeResult], run_id: str
) -> dict[str, TestRecord]:
    """Returns the records of all tests."""
    newest, found = ages(models, now), dict[str, TestRecord]()
    for result in ran:
        if result.name in models.test_named and result.status not in SKIPPED:
            # One that could not find out runs again in the next build.
            saw = (seen_by(models, models.test_named[result.name], newest) or {}) if result.status in _FOUND else {}
            found[result.name] = TestRecord(result.status, result.rows, result.message, saw)
    known = {name: of for name, of in {**now.tests, **found}.items() if name in models.test_named}
    test_records.write(connection, dbt.schemas, found, known)
    changed = {models.tested(models.test_named[name]) for name in found} & models.by_name.keys()
    findings: dict[str, list[Finding]] = {name: [] for name in changed}
    for name, of in known.items():
        model = models.tested(models.test_named[name])
        if model in findings and of.status not in SUCCESS:
            findings[model].append(Finding(name, of.status, of.rows, of.message))
    build_records.write_findings(connection, dbt.schemas, findings, run_id=run_id)
    return known
