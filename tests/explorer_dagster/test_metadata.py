"""Records as Dagster's metadata: text for people is Markdown, lists and objects are JSON, the rest is plain."""

import dagster as dg

from explorer.contract.checks import Rejected, TableChecks
from explorer.contract.materializations import StaticModel
from explorer.contract.records import Markdown
from explorer_dagster.metadata import as_metadata


def test_each_value_gets_the_type_that_the_ui_shows_it_by() -> None:
    told = as_metadata(TableChecks(tables_tested=2, failing=(), overview=Markdown("| |")))
    assert told == {"tables_tested": 2, "failing": dg.MetadataValue.json([]), "overview": dg.MetadataValue.md("| |")}
    # Dagster's storage takes texts, not what derives from them.
    assert type(told["overview"].value) is str
    assert as_metadata(Rejected(rows_rejected=0, reasons={}))["reasons"] == dg.MetadataValue.json({})


def test_dagsters_own_objects_stay_what_they_are() -> None:
    schema = dg.TableSchema([dg.TableColumn("case_id", "text")])
    assert as_metadata(StaticModel(column_schema=schema, rebuilt=False)) == {
        "rebuilt": False,
        "dagster/column_schema": schema,
    }
