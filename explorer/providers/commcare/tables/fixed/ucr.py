"""What is in `ucr_data_sources` and `ucr_rows`, the data of user-configurable reports?"""

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import (
    PRESENT,
    blank_to_null,
    computed,
    object_or_empty,
    table,
    typed,
    unchanged,
    unfit,
)
from explorer.tables.values import Rows

_ABOUT_NAME = "Name of the data source."

UCR_DATA_SOURCES = table(
    "ucr_data_sources",
    "One row per UCR data source (user-configurable report) of the project space; empty where the plan has none.",
    (
        unchanged("data_source_id", "text", "Identifier of the data source."),
        computed(
            "display_name",
            "text",
            _ABOUT_NAME,
            blank_to_null("display_name"),
            Origin("raw_ucr_data_sources", "display_name"),
        ),
    ),
    Rows("raw_ucr_data_sources", "data_source_id", PRESENT),
    key=("data_source_id",),
    inputs={"raw_ucr_data_sources"},
)

_NAMED = """select source.*, ucr_data_sources.display_name as data_source_name
from source
left join ucr_data_sources on source.data_source_id = ucr_data_sources.data_source_id"""

UCR_ROWS = table(
    "ucr_rows",
    "One row per row of a UCR data source, all data sources of the project space together.",
    (
        unchanged(
            "row_id",
            "text",
            "Identifier of the row, made from its content: data sources that unfold repeats have several rows per document.",
        ),
        unchanged("data_source_id", "text", "The data source."),
        unchanged("data_source_name", "text", _ABOUT_NAME, Origin("ucr_data_sources", "display_name")),
        computed(
            "doc_id",
            "text",
            "The case or form submission that the row was computed from.",
            blank_to_null("doc_id"),
            Origin("raw_ucr_rows", "doc_id"),
        ),
        typed(
            "repeat_iteration",
            "bigint",
            "Which repetition within the document, from 0; NULL where the data source does not unfold repeats.",
        ),
        unchanged("inserted_at", "timestamptz", "When the server last computed the row."),
        computed(
            "indicators",
            "jsonb",
            "The data source's columns as a JSON object.",
            f"{object_or_empty('record')} - array['id', 'doc_id', 'inserted_at', 'repeat_iteration']",
            Origin("raw_ucr_rows", "record"),
        ),
        unfit(),
    ),
    Rows("raw_ucr_rows", "row_id", PRESENT, (("named", _NAMED),)),
    key=("row_id",),
    inputs={"raw_ucr_rows", "raw_ucr_data_sources"},
    reads=("ucr_data_sources",),
    indexes=("data_source_id", "doc_id"),
)
