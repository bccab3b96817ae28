"""What Dagster takes from the module of definitions."""

import dagster as dg

from explorer_dagster import definitions


def test_dagster_finds_one_definitions_object() -> None:
    """It refuses a module that has several, whatever they are called."""
    assert [name for name, value in vars(definitions).items() if isinstance(value, dg.Definitions)] == ["defs"]
