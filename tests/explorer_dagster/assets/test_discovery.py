"""Discovery's report of a tenant's structure: the first time, without changes, and when the server refuses."""

from explorer.contract.names import AssetKeys
from tests.explorer_dagster.conftest import Stage, failure_of, materialized

KEY = AssetKeys("commcare").discovery("app_structure")


def test_a_version_is_kept_when_the_structure_changed_only(stage: Stage) -> None:
    first = materialized(stage.run_assets(KEY))[KEY]
    known = stage.catalog.discovered.latest(stage.tenant)
    assert known is not None
    assert (first["version"], first["changed"]) == (1, True)
    assert first["apps"] == len(known.structure["apps"]) > 0
    assert first["forms"] == len(known.structure["forms"]) > 0
    assert first["requests"] > 0
    assert first["bytes"] > 0
    # One module of the demo is broken.
    assert first["warnings"] == known.structure["warnings"]
    assert len(first["warnings"]) == 1
    assert first["changes"].endswith("is the first.")
    assert first["diff"] == known.diff

    second = materialized(stage.run_assets(KEY))[KEY]
    assert (second["version"], second["changed"], second["since_the_last_sync"]) == (1, False, "nothing")
    assert (second["changes"], second["found"]) == (first["changes"], first["found"])
    assert len(stage.catalog.discovered.versions(stage.tenant)) == 1


def test_a_refused_credential_fails_the_step_with_code_and_next_step(stage: Stage) -> None:
    stage.demo.control.fail("/application/v1/", status=401, times=9, body="")
    failure = failure_of(stage.run_assets(KEY))
    assert failure.metadata["code"].value == "commcare_credentials_invalid"
    assert failure.metadata["next_step"].value
    assert failure.metadata["next_step"].value in failure.description
    assert "retry_at" not in failure.metadata
    assert stage.catalog.discovered.latest(stage.tenant) is None
