"""Writes the dbt sources of each provider, the tables that every tenant has: `python -m devtools.dbt_sources`.

Into `dbt_project/models/<provider>/_sources.yml`, from the values that the tables themselves are built from.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from devtools.imports import ROOT
from explorer.providers import provider_named, provider_names
from explorer.tables.values import ColumnSpec, TableSpec

MODELS = ROOT / "dbt_project" / "models"
_HEAD = "# Made by `python -m devtools.dbt_sources`; a test keeps it equal to the provider's tables.\n"


def rendered() -> Iterator[tuple[Path, str]]:
    """Path and content of each file; a provider without tables has none."""
    for name in provider_names():
        provider = provider_named(name)
        if provider.tables.fixed:
            yield MODELS / name / "_sources.yml", _HEAD + _as_yaml(_source(name, provider.title, provider.tables.fixed))


def _source(name: str, title: str, tables: tuple[TableSpec, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Tables of one row per record of {title}, the same for every tenant; built before dbt runs.",
        "schema": "{{ target.schema }}",
        "tables": [_table(table) for table in tables],
    }


def _table(table: TableSpec) -> dict[str, Any]:
    return {
        "name": table.name,
        "description": table.description,
        "columns": [_column(column) for column in table.columns],
    }


def _column(column: ColumnSpec) -> dict[str, Any]:
    return {"name": column.name, "data_type": column.type, "description": column.description}


def _as_yaml(source: dict[str, Any]) -> str:
    return yaml.safe_dump({"sources": [source]}, sort_keys=False, allow_unicode=True, width=120)


def main() -> None:
    """Write the files."""
    for path, content in rendered():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
