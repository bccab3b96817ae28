"""What is in `lookup_tables` and `lookup_table_items`?"""

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import (
    PRESENT,
    array_or_empty,
    computed,
    json_array,
    json_object,
    object_or_empty,
    table,
    texts,
    typed,
    unchanged,
    unfit,
)
from explorer.tables.values import ColumnSpec, Parent, Rows

_TAG = "Name of the lookup table in applications."
_DEFINED = array_or_empty("record -> 'fields'")
_FIELD_NAMES = f"""array(
    select field.value ->> 'field_name'
    from jsonb_array_elements({_DEFINED}) with ordinality as field (value, n)
    order by field.n
)"""  # noqa: S608 - only literals of this module

LOOKUP_TABLES = table(
    "lookup_tables",
    "One row per lookup table definition.",
    (
        unchanged("lookup_table_id", "text", "Identifier of the lookup table."),
        unchanged("tag", "text", _TAG),
        typed("is_global", "boolean", "Whether all users receive all rows."),
        computed(
            "field_names",
            "text[]",
            "Names of the fields, in order.",
            _FIELD_NAMES,
            Origin("raw_lookup_tables", "record", ("fields",)),
        ),
        json_array("fields", "Definitions of the fields as a JSON array, with their properties."),
        texts("item_attributes", "Names of the attributes of rows."),
        unfit(),
    ),
    Rows("raw_lookup_tables", "lookup_table_id", PRESENT),
    key=("lookup_table_id",),
    inputs={"raw_lookup_tables"},
)

_TAGGED = """select source.*, source.data_type_id as lookup_table_id, lookup_tables.tag
from source
left join lookup_tables on source.data_type_id = lookup_tables.lookup_table_id"""
# A field is a list of values with properties (such as the language); nearly always one value.
_FIELDS = f"""coalesce((
    select jsonb_object_agg(
        field.key,
        case
            when jsonb_typeof(field.value -> 'field_list') is distinct from 'array' then field.value
            when jsonb_array_length(field.value -> 'field_list') = 1 then field.value #> '{{field_list,0,field_value}}'
            else jsonb_path_query_array(field.value, '$.field_list[*].field_value')
        end
    )
    from jsonb_each({object_or_empty("record -> 'fields'")}) as field (key, value)
), '{{}}'::jsonb)"""  # noqa: S608 - only literals of this module

LOOKUP_TABLE_ITEMS = table(
    "lookup_table_items",
    "One row per row of a lookup table.",
    (
        unchanged("item_id", "text", "Identifier of the row."),
        unchanged("lookup_table_id", "text", "The lookup table.", Origin("raw_lookup_table_items", "data_type_id")),
        unchanged("tag", "text", _TAG, Origin("lookup_tables", "tag")),
        typed("sort_key", "bigint", "Position of the row in its table."),
        ColumnSpec(
            "fields",
            "jsonb",
            "Values as a JSON object: field name to value; an array where a field has several values, such as one per"
            " language.",
            path=("fields",),
            text=_FIELDS,
        ),
        json_object("field_lists", "Values with their properties, as the API sent them.", "fields"),
        json_object("item_attributes", "Attributes of the row as a JSON object."),
        unfit(),
    ),
    Rows("raw_lookup_table_items", "item_id", PRESENT, (("tagged", _TAGGED),)),
    key=("item_id",),
    inputs={"raw_lookup_table_items", "raw_lookup_tables"},
    reads=("lookup_tables",),
    parents=(Parent(("lookup_table_id",), "lookup_tables", "lookup_table_id"),),
)
