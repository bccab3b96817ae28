"""dbt would find nothing to do only where no model is stale and none is gone."""

from collections.abc import Callable

from explorer.contract.bookkeeping import lineage
from explorer.marts import Models, is_current, manifest
from tests.explorer.marts.studio import PROVIDER, Studio


def current(studio: Studio) -> bool:
    return is_current(studio.dbt, Models(manifest(studio.settings, PROVIDER)))


def test_models_are_current_until_what_they_read_changes(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(of_cases="select count(*) as n from {{ source('commcare', 'cases') }}")
    tables = "sources: [{name: commcare, schema: '{{ target.schema }}', tables: [{name: cases}]}]"
    studio.write({"models/commcare/_sources.yml": tables})
    studio.make_table("cases", "select 1 as case_id")
    assert not current(studio)
    studio.build()
    assert current(studio)
    studio.make_table("cases", "select 2 as case_id")
    assert not current(studio)
    studio.build()
    assert current(studio)
    with studio.tenant.rw.connect() as connection:
        lineage.write(connection, studio.tenant.names, dict, part="models", version="of a version before")
    assert not current(studio)
    studio.build()
    assert current(studio)
    with studio.tenant.rw.connect() as connection:
        connection.execute(f"drop table {studio.tenant.names.marts}.of_cases".encode())
    assert not current(studio)


def test_a_model_that_the_project_no_longer_has_is_to_be_forgotten(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(kept="select 1 as n", gone="select 1 as n")
    studio.build()
    assert current(studio)
    (studio.project / "models" / PROVIDER / "marts" / "gone.sql").unlink()
    assert not current(studio)
    studio.build()
    assert current(studio)
