"""How does a tenant's dbt project run? dbt runs in a thread of this process, reports each result, and stops when interrupted.

A dbt process would spend three quarters of its time on imports. dbt sees only its own login: while it runs, the environment is
reduced to what dbt may read, since every template can call `env_var()`. One run at a time per process.
"""

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from explorer.core.errors import ExplorerError
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Login

# Variables that a process needs to work, and those that Dagster reads during a run.
# fmt: off
_KEPT = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "TZ", "SYSTEMROOT",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV",
    "DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "EXPLORER_HOME",
))
# fmt: on
# Queries of a killed process end within a second, and naive timestamps are UTC.
SESSION = {
    "client_connection_check_interval": "1000",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "DateStyle": "ISO,YMD",
    # Tables are joined and sorted as a whole; the default is meant for a hundred sessions.
    "work_mem": "32MB",
}
_CANCEL_LIMIT_S = 20.0
# Macros that every run renders: those of our package, and these of dbt.
_PACKAGE = "explorer"
# fmt: off
_MACROS_OF_DBT = frozenset((
    "default__get_where_subquery", "get_where_subquery", "list_relations_without_caching", "list_schemas",
    "load_cached_relation", "postgres__get_relations", "postgres__list_relations_without_caching",
    "postgres__list_schemas", "should_store_failures", "statement",
))
# fmt: on
_DBT_PACKAGES = frozenset(("dbt", "dbt_postgres"))
_DISPATCHED = ("default", "postgres")
_PLAIN = frozenset(("table", "view", "test"))
_WORD = re.compile(r"\w+")
_NODE_FINISHED = "NodeFinished"
_BUILD = "build"
_MULTIPROCESSING = str(Path(multiprocessing.__file__).parent)
_running = threading.Lock()
# A parsed project holds profiles.yml's defaults in place of a tenant, so that one tenant's parse can be the start of another's.
_ANY_PREFIX = "tenant"
_PARSED, _PARSED_FROM = "partial_parse.msgpack", "parsed_from"


class TransformFailed(ExplorerError):
    """dbt could not start or was not able to finish. Failures of single models are results, not this error."""

    code = "transform_failed"


class TransformBusy(ExplorerError):
    """Another dbt run is in progress in this process."""

    code = "transform_busy"


@dataclass(frozen=True)
class NodeResult:
    """The result of one model or test.

    `status`: success, error, skipped for models; pass, fail, warn, error, skipped for tests. `message`: dbt's text, None on
    success. `relation`: schema.table of a model. `rows`: of a built table; failing rows of a test.
    `columns`: name to description. `attached_node`: unique id of the model that a test belongs to. `severity`: of a test.
    `sql`: what dbt compiled: it returns the rows of a table or the number of a test; empty when nothing was compiled.
    """

    unique_id: str
    name: str
    resource_type: str
    status: str
    message: str | None
    relation: str | None
    rows: int | None
    duration_s: float
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    attached_node: str | None = None
    severity: str = "error"
    sql: str = field(default="", repr=False)


@dataclass(frozen=True)
class DbtResult:
    """All results of a run. `success`: no model or test failed or was skipped."""

    success: bool
    results: tuple[NodeResult, ...]
    duration_s: float

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        """Results other than success."""
        return tuple(
            result for result in self.results if result.status in ("error", "fail", "skipped", "runtime error")
        )


def run(
    project: TenantProject,
    *,
    login: Login,
    command: Sequence[str] = (_BUILD,),
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
    with _alone():
        manifest = _manifest(project, login.dbname)
        if command[0] == _BUILD:
            _leave_out_macros(manifest)
        collected = _Collector(manifest, on_result)
        with _environment(_variables(project.schemas.prefix, login)):
            outcome = _invoke(_arguments(project, command, select, threads), manifest, collected)
    if outcome.exception is not None:
        raise TransformFailed(
            f"dbt stopped: {_first_lines(outcome.exception)}",
            next_step="Look at the models named there; data from before is untouched.",
        ) from outcome.exception
    for result in getattr(outcome.result, "results", ()):
        collected.add(_from_run_result(result))
    return DbtResult(bool(outcome.success), tuple(collected.results.values()), time.monotonic() - started)


def write_manifest(dbt_project: Path, target_dir: Path) -> Any:
    """Parse a dbt project without a database and write its manifest.json into `target_dir`. Returns dbt's `Manifest`.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    with _alone(), _environment({}):
        return _parse(dbt_project, target_dir)


def warm_up(project: TenantProject) -> None:
    """Parse a project to fill this process's caches of dbt's schemas, macros and templates.

    dbt's static parser is off: it is native code whose locks do not survive a fork.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    from dbt_common.clients.jinja import template_cache

    _start_from(project)
    with _alone(), _environment({}):
        manifest = _parse(project.dir, project.target_dir, "--no-write-json", "--no-static-parser")
    for macro in manifest.macros.values():
        if macro.package_name == _PACKAGE or macro.name in _MACROS_OF_DBT:
            template_cache.get_node_template(macro)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    if not _running.acquire(blocking=False):
        raise TransformBusy(
            "dbt is already running in this process.", next_step="Wait for it to end, or use another process."
        )
    try:
        yield
    finally:
        _running.release()


_GLOBAL_ARGUMENTS = (
    "--log-level",
    "none",
    "--no-use-colors",
    "--no-version-check",
    "--no-send-anonymous-usage-stats",
    "--log-level-file",
    "none",
)


def _arguments(project: TenantProject, command: Sequence[str], select: Sequence[str] | None, threads: int) -> list[str]:
    paths = _paths(project.dir, project.target_dir)
    arguments = [*_GLOBAL_ARGUMENTS, "--no-write-json", *command, *paths, "--threads", str(threads)]
    if command[0] == _BUILD:
        arguments += ["--exclude-resource-type", "unit_test"]
    return [*arguments, "--select", *select] if select else arguments


def _paths(folder: Path, target: Path) -> list[str]:
    return [
        "--project-dir",
        str(folder),
        "--profiles-dir",
        str(folder),
        "--target-path",
        str(target),
        "--log-path",
        str(target),
    ]


# Environment


def _variables(prefix: str, login: Login) -> dict[str, str]:
    return {
        "DBT_EXPLORER_PREFIX": prefix,
        "DBT_EXPLORER_HOST": login.host,
        "DBT_EXPLORER_PORT": str(login.port),
        "DBT_EXPLORER_DBNAME": login.dbname,
        "DBT_EXPLORER_USER": login.user,
        "DBT_ENV_SECRET_EXPLORER_PASSWORD": login.password,
        "DBT_EXPLORER_SSLMODE": login.options.get("sslmode", "prefer"),
        "DBT_EXPLORER_SSLROOTCERT": login.options.get("sslrootcert", ""),
        "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    }


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Reduce the process's environment to `variables` and the basics; restore it afterwards."""
    before = dict(os.environ)
    for name in before:
        if name not in _KEPT and not name.startswith("LC_"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


# dbt


def _manifest(project: TenantProject, database: str) -> Any:
    """The parsed project, placed in the tenant's schemas. dbt parses files that changed since the last parse; when none did, it
    does not run: even finding that out takes it half a second."""
    import dbt.version
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    parsed, marker = project.target_dir / _PARSED, project.target_dir / _PARSED_FROM
    state = f"{dbt.version.__version__} {project.content_hash}"
    if not parsed.is_file() or not marker.is_file() or marker.read_text() != state:
        _start_from(project)
        with _environment({}):
            _parse(project.dir, project.target_dir, "--no-write-json")
        marker.write_text(state)
    manifest = Manifest.from_msgpack(parsed.read_bytes(), decoder=extended_mashumuro_decoder)
    _place(manifest, project.schemas.prefix, database)
    return manifest


def _leave_out_macros(manifest: Any) -> None:
    """Keep only macros whose names occur in the models, in dbt's adapter or in another kept macro.

    dbt makes an object of each macro for every node, twice, used or not. A project of tables and views uses some two hundred of
    its five hundred. Other materializations build macro names at run time.
    """
    if any(node.config.materialized not in _PLAIN for node in manifest.nodes.values()):
        return
    adapter = ("dbt.adapters.base.impl", "dbt.adapters.sql.impl", "dbt.adapters.postgres.impl")
    constants = [vars(importlib.import_module(name)).items() for name in adapter]
    named = {value for found in constants for name, value in found if name.endswith("_MACRO_NAME")}
    left, kept = dict(manifest.macros), {}
    reached = [key for key, macro in left.items() if macro.package_name not in _DBT_PACKAGES]
    own = {left[key].name for key in reached}
    for node in manifest.nodes.values():
        # Hooks and conditions are in the configuration, test arguments in its metadata.
        named.update(_WORD.findall(f"{node.raw_code} {node.config} {getattr(node, 'test_metadata', '')}"))
        materializations = {f"materialization_{node.config.materialized}_{of}" for of in _DISPATCHED}
        # A macro of the project takes precedence over dbt's.
        named.update(materializations if own.isdisjoint(materializations) else ())
    while reached:
        for key in reached:
            kept[key] = left.pop(key)
            named |= _words(kept[key].macro_sql)
        reached = [key for key, macro in left.items() if not named.isdisjoint(_names(macro.name))]
    manifest.macros = kept


@lru_cache(2048)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))


def _names(macro: str) -> tuple[str, ...]:
    """The names by which it is called: `default__x` is called as `x`."""
    of, _, called = macro.partition("__")
    return (macro, called) if of in _DISPATCHED else (macro,)


def _start_from(project: TenantProject) -> None:
    parsed = project.target_dir / _PARSED
    if not parsed.is_file() and project.parsed_before is not None:
        shutil.copyfile(project.parsed_before / _PARSED, parsed)


def _place(manifest: Any, prefix: str, database: str) -> None:
    for node in (*manifest.nodes.values(), *manifest.sources.values()):
        old = f'"{node.database}"."{node.schema}".'
        node.database = database
        node.schema = node.schema.replace(_ANY_PREFIX, prefix, 1)
        if node.relation_name:
            node.relation_name = node.relation_name.replace(old, f'"{database}"."{node.schema}".', 1)
    for node in manifest.nodes.values():
        # dbt writes this name into each of its events.
        node.meta = node.config.meta = {}
    manifest.build_flat_graph()


def _parse(folder: Path, target: Path, *arguments: str) -> Any:
    from dbt.cli.main import dbtRunner

    outcome = dbtRunner().invoke([*_GLOBAL_ARGUMENTS, *arguments, "parse", *_paths(folder, target)])
    if not outcome.success:
        raise TransformFailed(
            f"dbt cannot read the project: {_first_lines(outcome.exception)}", next_step="Correct the file named there."
        ) from outcome.exception
    return outcome.result


def _first_lines(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:600] if error is not None else "no reason given"


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
            self.add(_from_event(event.data, node))


def _invoke(arguments: list[str], manifest: Any, collected: _Collector) -> Any:
    from dbt.cli.main import dbtRunner

    events: SimpleQueue[Any] = SimpleQueue()
    outcome: list[Any] = []

    def on_event(event: Any) -> None:
        if event.info.name == _NODE_FINISHED:
            events.put(event)

    def work() -> None:
        try:
            with _only_ends():
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
        _end(thread)
        raise
    return outcome[0]


@contextlib.contextmanager
def _only_ends() -> Iterator[None]:
    """Ignore dbt's other events, some twenty per node: filling in and writing them takes a quarter of a run."""
    from dbt_common.events.base_types import BaseEvent, ErrorLevel, WarnLevel
    from dbt_common.events.event_manager import EventManager
    from dbt_common.events.event_manager_client import ctx_set_event_manager, get_event_manager

    def is_end(event: BaseEvent) -> bool:
        return type(event).__name__ == _NODE_FINISHED

    def fill_in(self: BaseEvent, *arguments: Any, **named: Any) -> None:
        if is_end(self) or isinstance(self, (WarnLevel, ErrorLevel)):
            as_ever(self, *arguments, **named)
        else:
            self.pb_msg = getattr(self.PROTO_TYPES_MODULE, type(self).__name__)()

    class OnlyEnds(EventManager):
        def fire_event(self, e: Any, *arguments: Any, **named: Any) -> None:
            if is_end(e) or named.get("force_warn_or_error_handling"):
                super().fire_event(e, *arguments, **named)

    as_ever, before = BaseEvent.__init__, get_event_manager()
    ctx_set_event_manager(OnlyEnds())
    BaseEvent.__init__ = fill_in  # type: ignore[method-assign]
    try:
        yield
    finally:
        BaseEvent.__init__ = as_ever  # type: ignore[method-assign]
        ctx_set_event_manager(before)


def _next(events: "SimpleQueue[Any]") -> Any:
    # A get without a time limit would block interrupts.
    while True:
        with contextlib.suppress(Empty):
            return events.get(timeout=0.2)


def _end(thread: threading.Thread) -> None:
    """Make dbt stop as on Ctrl-C, and cancel its queries until it has."""
    deadline = time.monotonic() + _CANCEL_LIMIT_S
    is_told = False
    while thread.is_alive() and time.monotonic() < deadline:
        # A second interrupt must not leave queries running.
        with contextlib.suppress(BaseException):
            if not is_told and not _is_in_pool(thread):
                is_told = True
                kind = ctypes.py_object(KeyboardInterrupt)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), kind)
            _cancel_queries()
            thread.join(timeout=0.05)


def _is_in_pool(thread: threading.Thread) -> bool:
    """Whether dbt is starting or closing its thread pool. An interrupt there could leave the pool's locks taken, and whoever
    collects the pool as garbage would wait for them. These moments are short, or come when everything but the ending of queries
    is over."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_MULTIPROCESSING):
            return True
        frame = frame.f_back
    return False


def _cancel_queries() -> None:
    from dbt.adapters.contracts.connection import ConnectionState
    from dbt.adapters.factory import FACTORY

    for adapter in list(FACTORY.adapters.values()):
        for connection in list(adapter.connections.thread_connections.values()):
            if connection.state == ConnectionState.OPEN:
                with contextlib.suppress(Exception):
                    connection.handle.cancel()


def _from_event(data: Any, node: Any) -> NodeResult:
    result, info = data.run_result, data.node_info
    rows = dict(result.adapter_response).get("rows_affected") if node.resource_type == "model" else result.num_failures
    return _result(node, info.node_status, result.message, rows, result.execution_time)


def _from_run_result(result: Any) -> NodeResult:
    rows = result.adapter_response.get("rows_affected") if result.node.resource_type == "model" else result.failures
    return _result(result.node, str(result.status), result.message, rows, result.execution_time)


def _result(node: Any, status: str, message: str | None, rows: Any, duration_s: float) -> NodeResult:
    is_model = node.resource_type == "model"
    good = status in ("success", "pass")
    is_view = is_model and node.config.materialized == "view"
    return NodeResult(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=str(node.resource_type),
        status=status,
        message=None if good else (message or None),
        relation=f"{node.schema}.{node.alias}" if is_model else None,
        rows=int(rows) if rows is not None and rows >= 0 and not is_view and (good or not is_model) else None,
        duration_s=float(duration_s),
        description=node.description,
        columns={name: column.description for name, column in getattr(node, "columns", {}).items()},
        depends_on=tuple(node.depends_on.nodes),
        attached_node=getattr(node, "attached_node", None),
        severity=node.config.severity.lower() if node.resource_type == "test" else "error",
        sql="" if is_view else _sql(node),
    )


def _sql(node: Any) -> str:
    compiled = getattr(node, "compiled_code", None) or ""
    if not compiled or node.resource_type != "test":
        return compiled
    return f"select {node.config.fail_calc} from (\n{compiled}\n) as found"  # noqa: S608 - dbt's own
