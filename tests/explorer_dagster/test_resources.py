"""The tenant of a step."""

import socket
from contextlib import closing
from dataclasses import replace

import dagster as dg
import psycopg2
import pytest

from explorer.core.connect_guard import ConnectionForbidden
from explorer.core.settings import get_settings
from explorer.providers import provider_named
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


def test_a_run_connects_to_its_tenants_server_alone_and_only_while_it_reads(stage: Stage, pipeline: Pipeline) -> None:
    tried: list[str] = []
    server = stage.demo.url.removeprefix("http://").split(":")
    own = (server[0], int(server[1]))

    def may(address: tuple[str, int]) -> bool:
        try:
            socket.create_connection(address).close()
        except ConnectionForbidden as refused:
            tried.append(refused.message)
            return False
        return True

    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        other = elsewhere.getsockname()[:2]

        @dg.asset(name="work", partitions_def=tenants)
        def work(context: dg.AssetExecutionContext, platform: Platform) -> None:
            session = platform.session(context, pipeline)
            assert not may(own)
            with session.client(provider_named(pipeline.provider)) as client:
                assert client.get_json("user_domains/v1/", resource="domains", of_tenant=False)
                assert may(own)
                assert not may(other)
            assert not may(own)

        ran = dg.materialize(
            [work], resources={"platform": Platform()}, instance=stage.instance, partition_key=stage.tenant.key
        )
        assert ran.success
        assert may(other)
    assert [host in words for (host, _), words in zip((own, other, own), tried, strict=True)] == [True] * 3


def test_a_run_finds_its_database_by_name_and_looks_up_no_other(
    stage: Stage, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beyond one machine. psycopg looks the name up in Python; psycopg2, for dlt and dbt, does not."""
    service = replace(stage.pg_server.connections.service, host="localhost")
    monkeypatch.setenv("EXPLORER_CATALOG_URL", service.sqlalchemy_url().replace("+psycopg2", ""))
    get_settings.cache_clear()
    found = []

    @dg.asset(name="work", partitions_def=tenants)
    def work(context: dg.AssetExecutionContext, platform: Platform) -> None:
        session = platform.session(context, pipeline)
        with session.changing_tables() as connection:
            found.append((session.rw_database.host, connection.execute("SELECT session_user").fetchone()))
        with closing(psycopg2.connect(**session.rw_database.conninfo())):
            pass
        with pytest.raises(ConnectionForbidden):
            socket.getaddrinfo("c2VjcmV0.example.org", service.port)

    ran = dg.materialize(
        [work], resources={"platform": Platform()}, instance=stage.instance, partition_key=stage.tenant.key
    )
    assert ran.success
    assert found == [("localhost", (stage.catalog.schemas.rw_login(stage.tenant).user,))]
