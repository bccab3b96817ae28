"""The names that Dagster sees: code location, partitions, assets, schedules and sensors."""

from dataclasses import dataclass
from typing import Literal

CODE_LOCATION = "explorer"
# Dagster's own name for the definitions of a code location.
REPOSITORY = "__repository__"
# The dynamic partitions: one per active tenant, keyed by the tenant's key.
TENANT_PARTITIONS = "tenants"

# The job that has the administrator's login, and its only op.
PROVISIONING = "provisioning"
PROVISIONING_OP = "carry_out"
# dagster.yaml limits runs with the first to one at a time; they go before those of pipelines.
PROVISIONING_TAGS = {"explorer/provisioning": "true", "dagster/priority": "10"}
# The job that removes what is too old, and its asset.
MAINTENANCE = "maintenance"
RETENTION = ("platform", "retention")
TENANT_REGISTRATION = "tenant_registration"
THROTTLED_RUNS = "throttled_runs"
ALERTS = "alerts"
RUN_OUTCOMES = "run_outcomes"

AssetKey = tuple[str, ...]
Layer = Literal["raw", "staging", "marts"]
SAVED_MODELS = "saved_models"
"""The name of the asset that stands for all models that people have saved."""
RAW: Layer = "raw"
MARTS: Layer = "marts"


@dataclass(frozen=True)
class AssetKeys:
    """Keys of a pipeline's assets: `<prefix>/<discovery>`, `<prefix>/raw/<source>`, `<prefix>/staging/<model>`,
    `<prefix>/marts/<table>`. The job has the pipeline's own name."""

    prefix: str

    def discovery(self, name: str) -> AssetKey:
        """Key of a discovery's asset."""
        return (self.prefix, name)

    def raw(self, source: str) -> AssetKey:
        """Key of the raw table of a source, by the source's name."""
        return self.of(RAW, source)

    def marts(self, table: str) -> AssetKey:
        """Key of a mart, or of the asset that stands for many generated tables."""
        return self.of(MARTS, table)

    def of(self, layer: str, name: str) -> AssetKey:
        """Key of an asset in a layer."""
        return (self.prefix, layer, name)


def is_raw(key: AssetKey) -> bool:
    """Whether the key is that of a source's raw table."""
    return key[-2:-1] == (RAW,)


def within_pipeline(key: AssetKey) -> str:
    """`raw/cases` for `<prefix>/raw/cases`: the pipeline's prefix says nothing inside one pipeline."""
    return "/".join(key[1:] if len(key) > 1 else key)


def schedule_name(pipeline: str) -> str:
    """Name of the schedule that syncs a pipeline."""
    return f"{pipeline}_schedule"


def full_refresh_schedule_name(pipeline: str) -> str:
    """Name of the schedule that reads everything again."""
    return f"{pipeline}_full_refresh_schedule"
