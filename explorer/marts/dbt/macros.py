"""Which macros does a run need? dbt makes objects of all of them for every node, and parses each template at its first call."""

import importlib
import re
from functools import lru_cache
from typing import Any

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


def leave_out_macros(manifest: Any) -> None:
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


def parse_templates(manifest: Any) -> None:
    """Put the macros that every run renders into dbt's cache of templates."""
    from dbt_common.clients.jinja import template_cache

    for macro in manifest.macros.values():
        if macro.package_name == _PACKAGE or macro.name in _MACROS_OF_DBT:
            template_cache.get_node_template(macro)


@lru_cache(2048)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))


def _names(macro: str) -> tuple[str, ...]:
    """The names by which it is called: `default__x` is called as `x`."""
    of, _, called = macro.partition("__")
    return (macro, called) if of in _DISPATCHED else (macro,)
