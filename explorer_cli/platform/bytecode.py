"""Compiles the installed packages once, if they are not compiled.

Without bytecode the imports of every process of the platform take about twelve seconds instead of five. pip compiles while
it installs; other installers do not.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "alembic", "cryptography", "dagster", "dagster_dbt", "dagster_graphql", "dagster_postgres", "dagster_shared",
    "dagster_webserver", "dbt", "dlt", "google", "graphene", "graphql", "grpc", "jinja2", "mashumaro", "mcp", "mcp_types",
    "networkx", "pydantic", "rich", "sqlalchemy", "sqlglot", "starlette", "uvicorn",
)  # fmt: skip
PROBED = ("dagster", "dbt", "sqlalchemy")
COMPILED_SHARE = 0.3
TIMEOUT_S = 300


def compile_packages() -> bool:
    """Compile the heavy packages if they are not; True when it compiled something.

    A read-only folder stays as it is: the platform then starts more slowly.
    """
    if all(_compiled(folder) for name in PROBED for folder in _folders(name)):
        return False
    folders = [str(folder) for name in PACKAGES for folder in _folders(name) if os.access(folder, os.W_OK)]
    if not folders:
        return False
    command = [sys.executable, "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1), *folders]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False)
    return True


def _compiled(folder: Path) -> bool:
    """Whether enough of a package has bytecode; modules that nobody imports may have none."""
    sources = list(folder.rglob("*.py"))
    done = sum(Path(importlib.util.cache_from_source(str(source))).exists() for source in sources)
    return done >= COMPILED_SHARE * len(sources)


def _folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(place) for place in spec.submodule_search_locations or []] if spec else []
