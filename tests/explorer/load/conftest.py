"""A demo project space, a tenant in a real Postgres, and the load between them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.load import LoadProgress, LoadReport, LoadTarget, load
from explorer.postgres.connections import Connections
from explorer.postgres.run_lock import run_lock
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.paging import STYLES
from explorer.registry import Pipeline
from tests.explorer.extract.conftest import pipeline, record_id

__all__ = ["TABLES", "Loader", "pipeline"]


@pytest.fixture
def demo() -> Iterator[RunningServer]:
    """A server of its own, since tests change its world."""
    with serve_in_thread(cases=60) as server:
        yield server


@dataclass
class Loader:
    """Loads the demo's project space into one tenant, as often as asked; waiting takes no time."""

    demo: RunningServer
    tenant: Any
    connections: Connections
    pipeline: Pipeline
    settings: Settings
    work_dir: Path
    waits: list[float] = field(default_factory=list)
    progress: list[LoadProgress] = field(default_factory=list)

    def __call__(
        self, *resources: str, full: bool = False, client: CommCareClient | None = None, **options: Any
    ) -> LoadReport:
        client = client or self.client(ApiKeyCredential(self.demo.username, self.demo.api_key))
        with client, run_lock(self.tenant.rw, "demo", self.tenant.prefix, holder="run run-1") as connection:
            return load(
                self.target, connection, client, self.pipeline, resources or self.pipeline.source_names,
                run_id="run-1", full=full, work_dir=self.work_dir, on_progress=self.progress.append,
                **{"styles": STYLES, **options},
            )  # fmt: skip

    @property
    def target(self) -> LoadTarget:
        return LoadTarget(self.tenant.names, self.tenant.rw)

    def client(self, credential: Any, **options: Any) -> CommCareClient:
        return CommCareClient(
            self.demo.url, MATERNAL, credential, settings=self.settings, sleep=self.waits.append, **options
        )

    def with_page_size(self, size: int, **changes: Any) -> "Loader":
        """`changes`: of all sources, beside."""
        sources = tuple(
            source.model_copy(update={"page_size": size, "max_page_size": None, **changes})
            for source in self.pipeline.sources
        )
        self.pipeline = self.pipeline.model_copy(update={"sources": sources})
        return self

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query, with `raw` as the schema's placeholder."""
        with self.tenant.rw.connect(autocommit=True) as connection:
            return connection.execute(query.replace("raw.", f"{self.tenant.prefix}_raw.")).fetchall()

    def records(self, table: str) -> dict[str, Any]:
        """The table's records that are not marked as deleted, by id."""
        rows = self.rows(f"SELECT record FROM raw.{table} WHERE _deleted_at IS NULL")
        return {record_id(record): record for (record,) in rows}

    def truth(self, kind: str) -> dict[str, Any]:
        """The same from the server's own books."""
        return {record_id(record): record for record in getattr(self.demo.truth(MATERNAL), kind)}

    def differences(self) -> dict[str, Any]:
        """Per table, ids whose record is not what the server has."""
        found = {}
        for table, kind in TABLES.items():
            here, there = self.records(table), self.truth(kind)
            wrong = {
                key for key in here.keys() | there.keys() if not _same(here.get(key), there.get(key), self.demo.url)
            }
            if wrong:
                found[table] = {key: (here.get(key), there.get(key)) for key in sorted(wrong)[:3]}
        return found


TABLES = {
    "raw_cases": "cases",
    "raw_forms": "forms",
    "raw_users": "users",
    "raw_web_users": "web_users",
    "raw_groups": "groups",
    "raw_locations": "locations",
    "raw_lookup_tables": "lookup_tables",
    "raw_lookup_table_items": "lookup_table_items",
}


# Characters in the demo's data that jsonb cannot store; the loader replaces them.
UNSTORABLE = ("\\u0000",)


def _same(here: Any, there: Any, url: str) -> bool:
    """Equal in all fields that the API gives; the truth has addresses without the server, and `is_active` of users beside."""
    if here is None or there is None:
        return False
    shared = here.keys() & there.keys()
    here, there = ({key: record[key] for key in shared} for record in (here, there))
    expected = json.dumps(there, sort_keys=True)
    for code in UNSTORABLE:
        expected = expected.replace(code, "\\ufffd")
    return json.dumps(here, sort_keys=True).replace(url, "") == expected


@pytest.fixture
def loader(
    demo: RunningServer, make_tenant: Callable[..., Any], connections: Connections, pipeline: Pipeline, tmp_path: Path
) -> Loader:
    settings = Settings(_env_file=None, requests_per_second=1000, http_max_retry_after_s=10)
    return Loader(demo, make_tenant(), connections, pipeline, settings, tmp_path / "dlt")
