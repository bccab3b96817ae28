"""Which columns identify a row of each dbt mart? Read from the models' own properties.

The key is what dbt tests: `unique` of a column, or `primary_key` of several. Where parts of the key may be NULL, which that test
refuses, it is in the model's `config.meta.primary_key`. A model that says none has none; tables of records have theirs from the
plan.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from explorer.registry.loader import PipelineInvalid

Keys = dict[str, tuple[str, ...]]


def load_keys(dbt_project: Path, provider: str) -> Keys:
    """The key of each of a provider's marts that says one, by its name.

    Raises:
        PipelineInvalid: a properties file cannot be read.
    """
    keys: Keys = {}
    for path in sorted((dbt_project / "models" / provider / "marts").rglob("*.yml")):
        for model in _models(path):
            if key := _tested(model) or _unique(model) or _declared(model):
                keys[model["name"]] = tuple(key)
    return keys


def _models(path: Path) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PipelineInvalid(f"{path} cannot be read: {error}", next_step="Mend the file.") from None
    return list((content or {}).get("models") or ())


def _tested(model: dict[str, Any]) -> list[str]:
    return next(_primary_keys(model), [])


def _primary_keys(model: dict[str, Any]) -> Iterator[list[str]]:
    for test in model.get("data_tests") or ():
        if isinstance(test, dict) and "primary_key" in test:
            yield list(test["primary_key"]["arguments"]["columns"])


def _unique(model: dict[str, Any]) -> list[str]:
    return next(
        ([column["name"]] for column in model.get("columns") or () if "unique" in (column.get("data_tests") or ())), []
    )


def _declared(model: dict[str, Any]) -> list[str]:
    return list(((model.get("config") or {}).get("meta") or {}).get("primary_key") or ())
