"""Names that are visible from outside: schemas, roles, assets and schedules."""

from explorer.contract import names
from explorer.contract.names import AssetKeys, is_raw, within_pipeline
from explorer.contract.schemas import TenantSchemas


def test_schemas_and_roles_are_named_by_the_prefix() -> None:
    tenant = TenantSchemas("t_0123abcd")
    assert (tenant.raw, tenant.raw_staging) == ("t_0123abcd_raw", "t_0123abcd_raw_staging")
    assert (tenant.staging, tenant.marts) == ("t_0123abcd_staging", "t_0123abcd_marts")
    assert tenant.schemas == (tenant.raw, tenant.raw_staging, tenant.staging, tenant.marts)
    assert (tenant.rw, tenant.ro) == ("t_0123abcd_rw", "t_0123abcd_ro")


def test_assets_are_named_by_layer() -> None:
    keys = AssetKeys("commcare")
    assert keys.discovery("app_structure") == ("commcare", "app_structure")
    assert keys.raw("cases") == ("commcare", "raw", "cases")
    assert keys.of("staging", "stg_cases") == ("commcare", "staging", "stg_cases")
    assert keys.marts("cases") == ("commcare", "marts", "cases")
    assert [is_raw(key) for key in (keys.raw("cases"), keys.marts("raw"), keys.discovery("raw"))] == [
        True,
        False,
        False,
    ]
    assert within_pipeline(keys.raw("cases")) == "raw/cases"
    assert within_pipeline(("alone",)) == "alone"


def test_what_dagster_and_its_users_call_by_name() -> None:
    assert names.schedule_name("commcare_sync") == "commcare_sync_schedule"
    assert names.full_refresh_schedule_name("commcare_sync") == "commcare_sync_full_refresh_schedule"
    assert (names.CODE_LOCATION, names.REPOSITORY, names.TENANT_PARTITIONS) == ("explorer", "__repository__", "tenants")
    assert (names.TENANT_REGISTRATION, names.THROTTLED_RUNS) == ("tenant_registration", "throttled_runs")
