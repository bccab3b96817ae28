"""Records as Dagster's metadata: text for people is Markdown, lists and objects are JSON, the rest is plain."""

from datetime import UTC, datetime

import dagster as dg

from explorer.contract.checks import TableChecks
from explorer.contract.materializations import Table
from explorer.contract.records import Markdown, RunId
from explorer_dagster.metadata import as_metadata


def test_each_value_gets_the_type_that_the_ui_shows_it_by() -> None:
    told = as_metadata(TableChecks(tables_tested={"primary_keys": 2}, failing=(), overview=Markdown("| |")))
    assert told == {
        "tables_tested": dg.MetadataValue.json({"primary_keys": 2}),
        "failing": dg.MetadataValue.json([]),
        "overview": dg.MetadataValue.md("| |"),
    }
    # Dagster's storage takes texts, not what derives from them.
    assert type(told["overview"].value) is str
    assert as_metadata(TableChecks(tables_tested={}))["tables_tested"] == dg.MetadataValue.json({})


def test_a_change_is_shown_as_a_moment_and_a_link_to_its_run() -> None:
    moment = datetime(2026, 11, 30, 12, tzinfo=UTC)
    told = as_metadata(Table(last_change=moment, changed_by=RunId("a1")))
    assert told == {
        "last_change": dg.MetadataValue.timestamp(moment),
        "changed_by": dg.MetadataValue.dagster_run("a1"),
    }
    assert Table.from_metadata({"last_change": moment.timestamp(), "changed_by": "a1"}).changed_by == "a1"


def test_dagsters_own_objects_stay_what_they_are() -> None:
    schema = dg.TableSchema([dg.TableColumn("case_id", "text")])
    assert as_metadata(Table(column_schema=schema, verb="unchanged")) == {
        "verb": "unchanged",
        "dagster/column_schema": schema,
    }
