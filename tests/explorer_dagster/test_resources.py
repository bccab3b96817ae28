"""The tenant of a step."""

import dagster as dg
import pytest

from explorer.registry import Pipeline
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, WrongPipeline
from tests.explorer_dagster.conftest import Stage


def test_a_pipeline_works_for_tenants_of_its_provider_alone(stage: Stage, pipeline: Pipeline) -> None:
    found = []

    def work_of(pipeline: Pipeline) -> dg.AssetsDefinition:
        @dg.asset(name="work", partitions_def=tenants)
        def work(context: dg.AssetExecutionContext, platform: Platform) -> None:
            found.append(platform.session(context, pipeline).tenant)

        return work

    def run(pipeline: Pipeline) -> None:
        dg.materialize(
            [work_of(pipeline)], resources={"platform": Platform()}, instance=stage.instance,
            partition_key=stage.tenant.key,
        )  # fmt: skip

    run(pipeline)
    assert found == [stage.tenant]
    with pytest.raises(WrongPipeline, match=f"Tenant {stage.tenant.key} is of provider commcare, .* is of other"):
        run(pipeline.model_copy(update={"provider": "other"}))
    assert found == [stage.tenant]
