"""What is recorded of builds: from what each table was built, and what its tests found."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping.builds import Build, Finding
from explorer.marts import relations
from explorer.marts.changes.compiled import keep_compiled
from explorer.marts.dbt.results import NodeResult
from explorer.marts.planning import Plan
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection


def begin(connection: Connection, project: TenantProject, models: Collection[str]) -> None:
    """Delete the records of these builds, so that a killed run leaves its models to be built as a whole."""
    build_records.forget(connection, project.schemas, models)


def record(connection: Connection, project: TenantProject, done: Plan, results: Sequence[NodeResult]) -> None:
    """Record the builds, and that models which were not stale are up to date; delete the records of failed models.

    Findings of earlier runs stay for tests that did not need to run again.
    """
    built = {result.name: result for result in results if result.resource_type == "model"}
    tests = {result.name: result for result in results if result.resource_type == "test"}
    standing = {
        name: tuple(finding for finding in findings if finding.test not in tests)
        for name, findings in done.findings.items()
    }
    good = {name: result.rows for name, result in built.items() if result.status == "success"}
    current = {**done.rows, **good}
    oids = relations.oids(connection, project.schemas)
    builds = {
        name: Build(
            model.definition,
            {table: done.versions[table] for table in sorted(model.raw) if table in done.versions},
            oids[model.relation],
            rows,
            (*standing.get(name, ()), *_findings(name, tests.values())),
        )
        for name, rows in current.items()
        if (model := done.models[name]).relation in oids
    }
    build_records.write(connection, project.schemas, builds, current)
    definitions = {name: model.definition for name, model in done.models.items()}
    keep_compiled(connection, project, definitions, done.raw_tables, results)


def _findings(model: str, tests: Iterable[NodeResult]) -> Iterator[Finding]:
    for test in tests:
        if test.tested_model == model and test.status not in ("pass", "skipped"):
            yield Finding(test.name, test.status, test.rows, test.message)
