with

lookup_tables as (

    select * from {{ ref('stg_lookup_tables') }}

)

select
    lookup_table_id,
    tag,
    is_global,
    array(select field.value ->> 'field_name' from jsonb_array_elements(fields) with ordinality as field (value, n) order by field.n) as field_names,
    fields,
    item_attributes
from lookup_tables
