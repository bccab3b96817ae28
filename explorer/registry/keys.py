"""Which columns identify a row of each static mart? Read from the models' own properties.

The key is what dbt tests: `primary_key` among the model's data tests. Where parts of the key may be NULL, which that test
refuses, it is in the model's `config.meta.primary_key`. Generated tables are keyed by kind (`TablePlanner.key_by_kind`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from explorer.registry.loader import PipelineInvalid

Keys = dict[str, tuple[str, ...]]


def load_keys(dbt_project: Path, provider: str) -> Keys:
    """The key of each of a provider's marts, by its name.

    Raises:
        PipelineInvalid: a properties file cannot be read, or a mart has no key.
    """
    keys: Keys = {}
    for path in sorted((dbt_project / "models" / provider / "marts").rglob("*.yml")):
        for model in _models(path):
            key = _tested(model) or _declared(model)
            if not key:
                raise PipelineInvalid(
                    f"{path.name}: model {model.get('name')!r} has no key.",
                    next_step="Give it the data test primary_key, or config.meta.primary_key where parts of the key may be NULL.",
                )
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


def _declared(model: dict[str, Any]) -> list[str]:
    return list(((model.get("config") or {}).get("meta") or {}).get("primary_key") or ())
