with

items as (

    select * from {{ ref('stg_lookup_table_items') }}

),

lookup_tables as (

    select lookup_table_id, tag from {{ ref('stg_lookup_tables') }}

),

-- A field is a list of values with properties (such as the language); nearly always one value.
flattened as (

    select
        items.item_id,
        (
            select jsonb_object_agg(
                field.key,
                case
                    when jsonb_typeof(field.value -> 'field_list') is distinct from 'array' then field.value
                    when jsonb_array_length(field.value -> 'field_list') = 1 then field.value #> '{field_list,0,field_value}'
                    else jsonb_path_query_array(field.value, '$.field_list[*].field_value')
                end
            )
            from jsonb_each(items.fields) as field (key, value)
        ) as fields
    from items

)

select
    items.item_id,
    items.lookup_table_id,
    lookup_tables.tag,
    items.sort_key,
    coalesce(flattened.fields, '{}'::jsonb) as fields,
    items.fields as field_lists,
    items.item_attributes
from items
inner join flattened on items.item_id = flattened.item_id
left join lookup_tables on items.lookup_table_id = lookup_tables.lookup_table_id
