"""The project's pipeline, and the ids of records."""

from pathlib import Path
from typing import Any

import pytest

from explorer.registry import Pipeline, load_pipeline

PIPELINE_FILE = Path(__file__).parents[3] / "pipelines" / "commcare_sync.yml"


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return load_pipeline(PIPELINE_FILE)


def record_id(record: dict[str, Any]) -> str:
    return str(record.get("case_id") or record.get("location_id") or record["id"])
