"""How does a tenant's dbt project run? dbt runs in a thread of this process, and each result is reported.

A dbt process would spend three quarters of its time on imports.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from explorer.marts.dbt.arguments import BUILD, run_arguments
from explorer.marts.dbt.environment import environment, exclusive, variables
from explorer.marts.dbt.errors import TransformFailed, first_lines
from explorer.marts.dbt.events import NODE_FINISHED, only_finished_nodes
from explorer.marts.dbt.interrupts import stop
from explorer.marts.dbt.macros import leave_out_macros, parse_templates
from explorer.marts.dbt.parsing import copy_parse_before, parse, tenant_manifest
from explorer.marts.dbt.results import DbtResult, NodeResult, from_event, from_run_result
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Login


def run(
    project: TenantProject,
    *,
    login: Login,
    command: Sequence[str] = (BUILD,),
    select: Sequence[str] | None = None,
    threads: int = 4,
    on_result: Callable[[NodeResult], None] | None = None,
) -> DbtResult:
    """Run dbt on the project with the tenant's own login; `on_result` is called in this thread when a node ends.

    Any exception in this thread (KeyboardInterrupt, Dagster's interrupt, one of `on_result`) ends the run: its queries are
    cancelled, open transactions rolled back, and the exception is raised. Each table is then as before or as after.

    Raises:
        TransformBusy: another dbt run is in progress in this process.
        TransformFailed: dbt could not read the project or reach the database.
    """
    started = time.monotonic()
    with exclusive():
        manifest = tenant_manifest(project, login.dbname)
        if command[0] == BUILD:
            leave_out_macros(manifest)
        collected = _Collector(manifest, on_result)
        with environment(variables(project.schemas.prefix, login)):
            outcome = _invoke(run_arguments(project, command, select, threads), manifest, collected)
    if outcome.exception is not None:
        raise TransformFailed(
            f"dbt stopped: {first_lines(outcome.exception)}",
            next_step="Look at the models named there; data from before is untouched.",
        ) from outcome.exception
    for result in getattr(outcome.result, "results", ()):
        collected.add(from_run_result(result))
    return DbtResult(bool(outcome.success), tuple(collected.results.values()), time.monotonic() - started)


def warm_up(project: TenantProject) -> None:
    """Parse a project to fill this process's caches of dbt's schemas, macros and templates.

    dbt's static parser is off: it is native code whose locks do not survive a fork.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    copy_parse_before(project)
    with exclusive(), environment({}):
        manifest = parse(project.dir, project.target_dir, "--no-write-json", "--no-static-parser")
    parse_templates(manifest)


class _Collector:
    """Results by unique id, each reported once."""

    def __init__(self, manifest: Any, on_result: Callable[[NodeResult], None] | None) -> None:
        self._nodes: Mapping[str, Any] = manifest.nodes
        self._on_result = on_result
        self.results: dict[str, NodeResult] = {}

    def add(self, result: NodeResult) -> None:
        if result.unique_id not in self.results:
            self.results[result.unique_id] = result
            if self._on_result is not None:
                self._on_result(result)

    def add_event(self, event: Any) -> None:
        node = self._nodes.get(event.data.node_info.unique_id)
        if node is not None:
            self.add(from_event(event.data, node))


def _invoke(arguments: list[str], manifest: Any, collected: _Collector) -> Any:
    from dbt.cli.main import dbtRunner

    events: SimpleQueue[Any] = SimpleQueue()
    outcome: list[Any] = []

    def on_event(event: Any) -> None:
        if event.info.name == NODE_FINISHED:
            events.put(event)

    def work() -> None:
        try:
            with only_finished_nodes():
                outcome.append(dbtRunner(manifest=manifest, callbacks=[on_event]).invoke(arguments))
        finally:
            events.put(None)

    thread = threading.Thread(target=work, name="dbt", daemon=True)
    thread.start()
    try:
        while (event := _next(events)) is not None:
            collected.add_event(event)
        thread.join()
    except BaseException:
        stop(thread)
        raise
    return outcome[0]


def _next(events: "SimpleQueue[Any]") -> Any:
    # A get without a time limit would block interrupts.
    while True:
        with contextlib.suppress(Empty):
            return events.get(timeout=0.2)
