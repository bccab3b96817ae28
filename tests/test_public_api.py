"""Only documented, public names of other libraries are used, nothing of theirs is replaced, and no process is changed behind
its caller's back.

What has no public way stands in `NO_PUBLIC_WAY`, with the reason; tests/explorer_dagster/test_upstream_contract.py says what is
relied on. The lists may only shrink: an entry that is no longer needed fails its test.
"""

import importlib
import inspect
import re
from functools import cache

from devtools.imports import PACKAGES, read_modules
from devtools.upstream import Sources, Use, is_private

PRODUCT = (*PACKAGES, "devtools")
# These test the names themselves: here, the scan's own test, and the contract with what has no public way.
_NAMING = {__name__, "tests.devtools.test_upstream", "tests.explorer_dagster.test_upstream_contract"}
_ALL = {name: module for name, module in read_modules(packages=(*PRODUCT, "tests")).items() if name not in _NAMING}
CODE = Sources({name: module for name, module in _ALL.items() if not name.startswith("tests.")})
WITH_TESTS = Sources(_ALL, apart=frozenset({"tests"}))
MOST = 12

# Name -> the modules that use it, and why there is no public way.
NO_PUBLIC_WAY = {
    "dagster._core.launcher.LaunchRunContext": "what a run launcher is called with; Dagster exports only its default one",
    "dagster._core.launcher.CheckRunHealthResult": "what a run launcher answers to the monitoring of runs",
    "dagster._core.launcher.WorkerStatus": "part of that answer",
    "dagster.DefaultRunLauncher._instance": "how every run launcher, Dagster's own included, reaches its instance",
    "dagster.DefaultRunLauncher._get_grpc_client_for_termination": "asks the server of a default worker",
    "dagster._grpc.types.CanCancelExecutionRequest": "that question: whether the worker still runs",
    "dagster._grpc.types.ExecuteRunArgs": "what a worker's process is given; Dagster's container launchers give the same",
    "dagster._cli.api.execute_run_command": "what a worker's process does: `dagster api execute_run`, here after a fork",
    "dagster._core.workspace.context.WorkspaceProcessContext": "what Dagster's web application is made of",
    "dagster._core.workspace.load_target.WorkspaceFileTarget": "says which workspace.yaml it shows",
    "dagster_webserver.app": "makes the application that our guard stands in front of; the command has no place for one",
    "uvicorn.protocols.http.httptools_impl": "uvicorn takes a protocol class, and its own waits forever for a request's head",
}  # fmt: skip

# Underscore names that their documentation names. `_replace` is that of named tuples, such as the parts of an address.
DOCUMENTED_NAMES = {"os._exit", "*._replace"}
# Of libraries that document only a part of their modules, that part; `.*`: what lies below it too. The other libraries document
# every module without an underscore.
DOCUMENTED_MODULES = {
    "dagster": ("dagster",),
    "dagster_celery": ("dagster_celery", "dagster_celery.launcher", "dagster_celery.make_app", "dagster_celery.tags",
                       "dagster_celery.tasks"),
    "dagster_dbt": ("dagster_dbt",),
    "dagster_graphql": ("dagster_graphql",),
    "dagster_postgres": ("dagster_postgres",),
    "dagster_webserver": (),
    "dbt": ("dbt.cli.main",),
    "dbt_common": ("dbt_common.events.base_types",),
    "dlt": ("dlt", "dlt.destinations", "dlt.sources.*", "dlt.common.pipeline", "dlt.common.typing", "dlt.extract",
            "dlt.common.configuration.specs", "dlt.common.schema.typing", "dlt.pipeline", "dlt.pipeline.exceptions"),
    "uvicorn": ("uvicorn",),
}  # fmt: skip

_MAIN = "this is a program's own main, or what it calls first"
# Module -> what it changes in its process, and why it may.
OWN_PROCESS = {
    "benchmarks.__main__": {"signal.signal": _MAIN},
    "benchmarks.agents.load": {"sys.stdout": "the main of a child: its stdout carries answers alone"},
    "benchmarks.server": {"sys.stdout": "the main of a child: its stdout carries answers alone"},
    "benchmarks.worker": {"sys.stdout": "the main of a child: its stdout carries answers alone"},
    "demo_commcare.server": {
        "logging.getLogger('uvicorn.error')": "the demo is a program, and cuts connections on purpose",
        "signal.signal": "called by the demo's main for as long as it serves",
    },
    "explorer.core.files": {"os.umask": "each of our programs calls it first, so that its files are private"},
    "explorer.telemetry.logs": {"logging.basicConfig": "each of our programs calls it first"},
    "explorer.marts.process": {
        "os.environ": "dbt's own process, which is given an environment of its own",
        "signal.signal": "dbt's own process, which Ctrl-C must reach",
    },
    "explorer_cli.platform.context": {"logging.raiseExceptions": _MAIN},
    "explorer_cli.supervision.interrupts": {"signal.signal": "the command line's, given back at the end of the block"},
    "explorer_dagster.checks": {
        "warnings.simplefilter": "within catch_warnings, while a spec is made: Dagster calls checks of partitions a preview"
    },
    "explorer_dagster.launch.fork_server": {
        "os.umask": "for the bind of one socket, before there are threads, and given back",
        "signal.set_wakeup_fd": "the warm pool's main, and each worker's own",
        "signal.signal": "the warm pool's main, and each worker's own",
    },
    "explorer_dagster.launch.warm_pool": {
        "gc.freeze": "the warm pool is a program of its own: what was imported stays",
        "gc.set_threshold": "the same, for its workers",
    },
    "mcp_bridge.__main__": {
        "gc.set_threshold": _MAIN,
        "logging.getLogger('mcp.server.streamable_http')": _MAIN,
        "logging.getLogger('sqlglot')": _MAIN,
        "logging.getLogger(noisy)": _MAIN,
    },
    "mcp_bridge.processes": {"signal.signal": "the main of a bridge of several processes, which serves nobody itself"},
    "mcp_bridge.gate.shutdown": {"signal.signal": "the bridge's, after the first signal has stopped it"},
}


def _shown(uses: list[Use]) -> list[str]:
    return [str(use) for use in uses]


def _undocumented() -> list[Use]:
    return [use for use in WITH_TESTS.foreign_modules() if not _is_documented(use.name)]


def _is_documented(module: str) -> bool:
    documented = DOCUMENTED_MODULES.get(module.partition(".")[0])
    if documented is None or is_private(module):
        # Private names are the other test's.
        return True
    return any(module == each or (each.endswith(".*") and f"{module}.".startswith(each[:-1])) for each in documented)


def _private() -> list[Use]:
    found = [use for use in WITH_TESTS.private_names() if use.name not in DOCUMENTED_NAMES]
    return [*found, *_replaced_by_inheritance()]


def _replaced_by_inheritance() -> list[Use]:
    """Private names of ours that a class of others, from which ours inherits, has too: ours would be called in its place."""
    return [
        Use(name.rpartition(".")[0], f"{base}.{attribute}", 0)
        for name, (bases, own) in CODE.inheriting().items()
        for base in bases
        for attribute in sorted(own & _private_names_of(base))
    ]


def _private_names_of(base: str) -> frozenset[str]:
    module, _, name = base.rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    if not inspect.isclass(found):
        return frozenset()
    line = [each for each in inspect.getmro(found) if each is not object]
    names = {name for each in line for name in vars(each)}
    for each in line:
        try:
            names |= set(re.findall(r"\bself\.(_\w+)", inspect.getsource(each)))
        except (OSError, TypeError):
            continue
    return frozenset(filter(is_private, names))


@cache
def _of_others() -> list[Use]:
    return [*_private(), *_undocumented()]


def _changes() -> list[Use]:
    return [use for use in CODE.changes() if use.name not in OWN_PROCESS.get(use.module, {})]


def test_what_is_not_public_is_on_the_list() -> None:
    assert _shown([use for use in _of_others() if use.name not in NO_PUBLIC_WAY]) == []


def test_the_list_is_short_and_each_entry_is_needed() -> None:
    assert NO_PUBLIC_WAY.keys() - {use.name for use in _of_others()} == set()
    assert len(NO_PUBLIC_WAY) <= MOST


def test_nothing_of_others_is_replaced_and_a_process_is_changed_by_its_main_alone() -> None:
    assert _shown(_changes()) == []


def test_each_change_of_a_process_is_there() -> None:
    found = {(use.module, use.name) for use in CODE.changes()}
    assert [
        (module, name) for module, names in OWN_PROCESS.items() for name in names if (module, name) not in found
    ] == []
