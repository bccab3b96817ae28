"""How a tenant's records get into the tenant's raw tables: exactly, incrementally, and all or nothing per table.

`load` is the whole face. Reading the API is `explorer.extract`'s business, shaping the tables for people is dbt's.
"""

from explorer.load.load import LoadTarget, load
from explorer.load.report import LoadProgress, LoadReport, ResourceReport, name_failures

__all__ = ["LoadProgress", "LoadReport", "LoadTarget", "ResourceReport", "load", "name_failures"]
