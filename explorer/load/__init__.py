"""Loads a tenant's records into its raw tables: exactly, incrementally, and all or nothing per table.

`load` is the public interface. `explorer.extract` reads the API, dbt shapes the tables for people.
"""

from explorer.load.load import load
from explorer.load.report import LoadProgress, LoadReport, ResourceReport, name_failures
from explorer.load.target import LoadTarget

__all__ = ["LoadProgress", "LoadReport", "LoadTarget", "ResourceReport", "load", "name_failures"]
