"""How a tenant's records get into its raw tables: exactly, incrementally, and all or nothing per table.

`load` is the whole face. Reading the API is `explorer.extract`'s business, shaping the tables for people is dbt's.
"""

from explorer.load.load import load
from explorer.load.report import LoadProgress, LoadReport, ResourceReport, name_failures
from explorer.load.target import LoadTarget

__all__ = ["LoadProgress", "LoadReport", "LoadTarget", "ResourceReport", "load", "name_failures"]
