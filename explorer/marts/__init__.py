"""How do people's own tables come about? dbt builds the models of `dbt_project/` over the tables of a tenant.

`build` brings a tenant's models up to date, `is_current` tells whether they are, `run_command` runs dbt's own command line,
`manifest` describes models and tests without a database; `warm_up`, `stand_by`, `get_ready` and `read_ahead` save a run the
seconds in which dbt starts. dbt is used by its public interface alone, in a process of its own.
"""

from explorer.marts.build import Built, TestResult, build
from explorer.marts.command import TenantDbt, get_ready, read_ahead
from explorer.marts.currency import is_current
from explorer.marts.errors import DbtProjectMissing, TransformFailed
from explorer.marts.manifest import Models, manifest, warm_up
from explorer.marts.own_command import run_command
from explorer.marts.process import close_all, stand_by

__all__ = [
    "Built",
    "DbtProjectMissing",
    "Models",
    "TenantDbt",
    "TestResult",
    "TransformFailed",
    "build",
    "close_all",
    "get_ready",
    "is_current",
    "manifest",
    "read_ahead",
    "run_command",
    "stand_by",
    "warm_up",
]
