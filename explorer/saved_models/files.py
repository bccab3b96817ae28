"""How does a saved model look as files of a dbt project, and how is it read back from them?

The statement is text between two pieces of Jinja: names of tables become `ref` and `source`, and every other `{` is written as
`{{ '{' }}`, so that no Jinja of the statement's own is left. What else people give (descriptions, values) has no braces.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from explorer.catalog.tenants.saved_models import ColumnTests, ModelText
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.marts.project import find_project

PROJECT = "saved_models"
SOURCE = "tenant"
"""The source of the tables that saved models read, in the tenant's own project."""
_BRACE = "{{ '{' }}"
_HEAD = "-- Saved from a running platform. Braces are written as Jinja, names of tables as ref and source.\n"
_JINJA = re.compile(
    r"\{\{\s*ref\('(?P<ref>\w+)'\)\s*\}\}|\{\{\s*source\('\w+',\s*'(?P<source>\w+)'\)\s*\}\}|(?P<brace>\{\{ '\{' \}\})"
)
_LIMITED = "select * from (\n{}\n) as saved\nlimit {}\n"
_REFUSAL = """\
{#- A model that grows beyond what its tenant may keep fails, and its old rows stay. -#}
{% macro refuse_more_rows(most) -%}
  {%- if execute -%}
    {%- set found = run_query('select count(*) from ' ~ this).columns[0].values()[0] -%}
    {%- if found > most -%}
      {%- do exceptions.raise_compiler_error('The model has more than ' ~ most ~ ' rows (EXPLORER_SAVED_MODEL_MAX_ROWS).') -%}
    {%- endif -%}
  {%- endif -%}
{%- endmacro %}
"""


class ModelFileInvalid(ExplorerError):
    """A file is no model that could be saved."""

    code = "model_file_invalid"


@dataclass(frozen=True)
class ModelFile:
    """A model as it is read from files. `sql`: with the tables' plain names."""

    name: str
    sql: str
    description: str
    tests: Mapping[str, ColumnTests] = field(default_factory=dict)


def write_project(
    folder: Path, settings: Settings, models: Mapping[str, ModelText], *, tables_in: str, max_rows: int
) -> None:
    """Write the tenant's project: exactly these models, over the tables of schema `tables_in`.

    Raises:
        DbtProjectMissing: the project's own macros and profile are used here too.
    """
    stock = find_project(settings)
    texts = {
        "dbt_project.yml": _yaml(_project(max_rows)),
        "profiles.yml": (stock / "profiles.yml").read_text(encoding="utf-8"),
        "macros/swapped_table.sql": (stock / "macros" / "swapped_table.sql").read_text(encoding="utf-8"),
        "macros/refuse_more_rows.sql": _REFUSAL,
        "models/_sources.yml": _yaml(_sources(models, tables_in)),
    }
    for name, text in models.items():
        texts[f"models/{name}.sql"] = _LIMITED.format(rendered(text, lambda t: _link(t, models)), max_rows + 1)
        texts[f"models/{name}.yml"] = _yaml(_properties(name, text, named=True))
    for path in (*(folder / "models").glob("*"), *(folder / "macros").glob("*")):
        if path.relative_to(folder).as_posix() not in texts:
            path.unlink()
    for place, wanted in texts.items():
        path = folder / place
        # What is as it was keeps its time, by which dbt tells what to parse again.
        if not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")


def exported(models: Mapping[str, ModelText], source_of: Callable[[str], str | None]) -> Iterator[tuple[str, str]]:
    """Name and text of the files that move models into the repository's dbt project. `source_of`: the dbt source of a table;
    None of what is itself a model."""

    def link(table: str) -> str:
        source = None if table in models else source_of(table)
        return f"{{{{ ref('{table}') }}}}" if source is None else f"{{{{ source('{source}', '{table}') }}}}"

    for name, text in models.items():
        yield f"{name}.sql", f"{_HEAD}{rendered(text, link)}\n"
        yield f"{name}.yml", _yaml(_properties(name, text))


def imported(folder: Path) -> Iterator[ModelFile]:
    """The models of a folder of `.sql` files, each with an entry in any `.yml` file there, or without.

    Raises:
        ModelFileInvalid
    """
    described = dict(_described(folder))
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise ModelFileInvalid(f"There is no .sql file in {folder}.", next_step="Name a folder of models.")
    for path in files:
        about = described.get(path.stem, {})
        try:
            columns = about.get("columns") or []
            tests = {str(column["name"]): _tests(column) for column in columns if column.get("data_tests")}
            yield ModelFile(path.stem, _without_jinja(path), str(about.get("description") or ""), tests)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileInvalid(
                f"The properties of model {path.stem} cannot be used: {error}.",
                next_step="Use the tests unique, not_null and accepted_values, as `explorer models export` writes them.",
            ) from None


def rendered(text: ModelText, link: Callable[[str], str]) -> str:
    """The statement as a template of dbt's: `link` says how a table is named."""
    parts, done = list[str](), 0
    for reference in text.references:
        parts += [text.sql[done : reference.start].replace("{", _BRACE), link(reference.table)]
        done = reference.end
    return "".join([*parts, text.sql[done:].replace("{", _BRACE)])


def _link(table: str, models: Mapping[str, ModelText]) -> str:
    return f"{{{{ ref('{table}') }}}}" if table in models else f"{{{{ source('{SOURCE}', '{table}') }}}}"


def _project(max_rows: int) -> dict[str, Any]:
    return {
        "name": PROJECT,
        "version": "1.0.0",
        "config-version": 2,
        "profile": "explorer",
        "model-paths": ["models"],
        "macro-paths": ["macros"],
        "flags": {"send_anonymous_usage_stats": False},
        "models": {
            PROJECT: {
                "+materialized": "swapped_table",
                "+persist_docs": {"relation": True},
                "+post-hook": f"{{{{ refuse_more_rows({max_rows}) }}}}",
            }
        },
    }


def _sources(models: Mapping[str, ModelText], schema: str) -> dict[str, Any]:
    tables = sorted({table for text in models.values() for table in text.reads} - models.keys())
    return {"version": 2, "sources": [{"name": SOURCE, "schema": schema, "tables": [{"name": t} for t in tables]}]}


def test_names(name: str, text: ModelText) -> list[str]:
    """What dbt calls the tests of a model in the tenant's own project."""
    return [f"{name}__{column}__{test}" for column, tests in text.tests.items() for test, _ in _data_tests(tests)]


def _properties(name: str, text: ModelText, *, named: bool = False) -> dict[str, Any]:
    """`named`: with our names of the tests, so that their results can be told apart."""

    def written(column: str, test: str, arguments: Mapping[str, Any]) -> str | dict[str, Any]:
        about = ({"name": f"{name}__{column}__{test}"} if named else {}) | (
            {"arguments": dict(arguments)} if arguments else {}
        )
        return {test: about} if about else test

    columns = [
        {"name": column, "data_tests": [written(column, *test) for test in _data_tests(tests)]}
        for column, tests in text.tests.items()
        if tests != ColumnTests()
    ]
    model = {"name": name, "description": text.description} | ({"columns": columns} if columns else {})
    return {"version": 2, "models": [model]}


def _data_tests(tests: ColumnTests) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and arguments."""
    if tests.unique:
        yield "unique", {}
    if tests.not_null:
        yield "not_null", {}
    if tests.accepted_values:
        # dbt puts the values between quotes as they are.
        yield "accepted_values", {"values": [value.replace("'", "''") for value in tests.accepted_values]}


def _tests(column: Mapping[str, Any]) -> ColumnTests:
    found: dict[str, Any] = {}
    for test in column["data_tests"]:
        name, given = (test, {}) if isinstance(test, str) else next(iter(test.items()))
        if name in ("unique", "not_null"):
            found[name] = True
        elif name == "accepted_values":
            values = given.get("arguments", given)["values"]
            found[name] = tuple(str(value).replace("''", "'") for value in values)
        else:
            raise ValueError(f"test {name} is none of those that a saved model can have")
    return ColumnTests(**found)


def _described(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            for model in content.get("models") or ():
                yield str(model["name"]), model
        except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ModelFileInvalid(
                f"{path.name} is no file of dbt properties: {' '.join(str(error).split())[:200]}",
                next_step="Correct it, or leave it out.",
            ) from None


def _without_jinja(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").removeprefix(_HEAD)
    except UnicodeDecodeError:
        raise ModelFileInvalid(f"{path.name} is no text in UTF-8.", next_step="Save it as UTF-8.") from None
    plain = _JINJA.sub(lambda found: "\0" if found["brace"] else found["ref"] or found["source"], text)
    if (at := plain.find("{")) >= 0:
        raise ModelFileInvalid(
            f"{path.name} has Jinja that is neither ref nor source, in line {plain.count(chr(10), 0, at) + 1}.",
            next_step="A saved model is plain SQL: write out what the Jinja does, or keep the model in the repository.",
        )
    return plain.replace("\0", "{").strip()


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=120)
