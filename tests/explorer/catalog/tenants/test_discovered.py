from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.catalog import Catalog, Tenant, UnknownStructureVersion
from explorer.providers.commcare.structure import Structure
from explorer.providers.commcare.structure_diff import structure_diff
from tests.explorer.providers.commcare.test_structure_diff import form, structure


def test_a_structure_becomes_a_version_once(catalog: Catalog, tenant: Tenant) -> None:
    assert catalog.discovered.latest(tenant) is None
    first = catalog.discovered.save(tenant, structure(form("visit", weight="Int")), "run-1", diff=structure_diff)
    assert (first.version, first.changed, first.diff["forms"]) == (1, True, {"added": ["visit"]})
    again = catalog.discovered.save(tenant, structure(form("visit", weight="Int")), "run-2", diff=structure_diff)
    assert (again.version, again.changed, again.diff, again.run_id) == (1, False, {}, "run-1")
    second = catalog.discovered.save(tenant, structure(form("visit", weight="Double")), "run-3", diff=structure_diff)
    assert (second.version, second.changed) == (2, True)
    assert second.content_hash != first.content_hash
    back = catalog.discovered.save(tenant, structure(form("visit", weight="Int")), "run-4", diff=structure_diff)
    assert (back.version, back.content_hash) == (3, first.content_hash)
    assert [version.version for version in catalog.discovered.versions(tenant)] == [3, 2, 1]
    latest = catalog.discovered.latest(tenant)
    assert latest is not None
    assert Structure.from_dict(latest.structure).forms == (form("visit", weight="Int"),)
    assert Structure.from_dict(catalog.discovered.get(tenant, 2).structure).forms == (form("visit", weight="Double"),)
    with pytest.raises(UnknownStructureVersion):
        catalog.discovered.get(tenant, 4)


def test_texts_that_jsonb_refuses_are_kept_readable(catalog: Catalog, tenant: Tenant) -> None:
    hostile = structure(form("visit\0", **{"na\0me": "Te\ud800xt"}))
    saved = catalog.discovered.save(tenant, hostile, diff=structure_diff)
    assert not catalog.discovered.save(tenant, hostile, diff=structure_diff).changed
    assert catalog.discovered.get(tenant, saved.version).structure["forms"][0]["questions"][0]["type"] == "Te\ufffdxt"


def test_concurrent_discoveries_get_versions_of_their_own(catalog: Catalog, tenant: Tenant) -> None:
    with ThreadPoolExecutor(4) as pool:
        saved = list(
            pool.map(lambda n: catalog.discovered.save(tenant, structure(version=n), diff=structure_diff), range(4))
        )
    assert sorted(version.version for version in saved) == [1, 2, 3, 4]
