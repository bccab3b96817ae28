"""What is a model or a test made by? A hash of it all, which tells whether it must be built or run again."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from explorer.core.settings import Settings
from explorer.marts.manifest import EPHEMERAL, Models, Node
from explorer.marts.project import settings_hash


def definitions(settings: Settings, models: Models) -> dict[str, str]:
    """Hash of each model, by its name: of its text, configuration and descriptions, of the macros that it uses, of models that
    dbt puts into its SQL, and of the project's settings.

    Raises:
        DbtProjectMissing: there is no project.
    """
    project, found = settings_hash(settings), dict[str, str]()
    for name, node in models.by_name.items():
        inlined = [found[each] for each in models.inputs(name) if each in found and _is_inlined(models.by_name[each])]
        found[name] = _hash([project, _own(models, node), inlined])
    return found


def definition_of_test(models: Models, test: Node) -> str:
    """Hash of a test."""
    return _hash(_own(models, test))


def _is_inlined(node: Node) -> bool:
    return bool(node["config"]["materialized"] == EPHEMERAL)


def _own(models: Models, node: Node) -> list[Any]:
    described = [node["description"], [[name, of["description"]] for name, of in node["columns"].items()]]
    sources = models.document["sources"]
    read = [sources[uid]["relation_name"] for uid in node["depends_on"]["nodes"] if uid in sources]
    arguments = node.get("test_metadata")
    return [node["raw_code"], node["config"], described, arguments, read, sorted(_macros(models, node))]


def _macros(models: Models, node: Node) -> Iterator[str]:
    """The texts of the macros that a node uses, also through others."""
    macros, unread = models.document["macros"], list(node["depends_on"]["macros"])
    for uid in unread:
        unread += [each for each in macros[uid]["depends_on"]["macros"] if each not in unread]
    return (macros[uid]["macro_sql"] for uid in set(unread))


def _hash(of: object) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
