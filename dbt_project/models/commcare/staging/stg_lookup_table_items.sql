with

source as (

    select * from {{ raw('raw_lookup_table_items', {'item_id': 'text', 'data_type_id': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        item_id,
        data_type_id as lookup_table_id,
        ---------- order
        casts.safe_bigint(record ->> 'sort_key') as sort_key,
        ---------- json
        {{ json_object("record -> 'fields'") }} as fields,
        {{ json_object("record -> 'item_attributes'") }} as item_attributes,
        ---------- quality
        {{ is_unreadable("record ->> 'sort_key'", "casts.safe_bigint(record ->> 'sort_key')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
