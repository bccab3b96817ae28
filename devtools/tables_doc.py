"""Writes the tables of docs/tables.md: `python -m devtools.tables_doc`.

From the values of tables that every tenant has, and from the properties files of the dbt models.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from devtools.dbt_sources import MODELS
from devtools.documents import renew
from devtools.imports import ROOT
from explorer.providers import provider_named, provider_names
from explorer.registry import load_keys
from explorer.tables.values import TableSpec

DOCUMENT = ROOT / "docs" / "tables.md"
_WIDTH = 118


def fixed_tables() -> str:
    """A section for each table that every tenant has."""
    tables = [table for name in provider_names() for table in provider_named(name).tables.fixed]
    return "\n".join(map(_section_of_table, tables))


def models() -> str:
    """A section for each dbt model in the layer `marts`."""
    return "\n".join(_section_of_model(model, keys) for model, keys in _models())


def _section_of_table(table: TableSpec) -> str:
    columns = [(column.name, column.type, column.description) for column in table.columns]
    return _section(table.name, table.description, table.key, ("column", "type", "meaning"), columns)


def _section_of_model(model: dict[str, Any], key: Sequence[str]) -> str:
    columns = [(column["name"], column.get("description", "")) for column in model.get("columns", ())]
    return _section(model["name"], model.get("description", ""), key, ("column", "meaning"), columns)


def _models() -> Iterator[tuple[dict[str, Any], Sequence[str]]]:
    for name in provider_names():
        keys = load_keys(ROOT / "dbt_project", name)
        for path in sorted((MODELS / name / "marts").rglob("*.yml")):
            for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", ()):
                yield model, keys.get(model["name"], ())


def _section(name: str, about: str, key: Sequence[str], head: Sequence[str], columns: Iterable[Sequence[str]]) -> str:
    keyed = f" Key: {', '.join(f'`{column}`' for column in key)}." if key else ""
    sentences = textwrap.fill(f"{' '.join(about.split())}{keyed}", _WIDTH, break_on_hyphens=False)
    rows = [(f"`{own}`", *(cell.replace("|", r"\|") for cell in others)) for own, *others in columns]
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return "\n".join([f"### {name}", "", sentences, "", *lines, ""])


def main() -> None:
    """Write the sections into the document."""
    renew(DOCUMENT, tables=fixed_tables(), models=models())


if __name__ == "__main__":
    main()
