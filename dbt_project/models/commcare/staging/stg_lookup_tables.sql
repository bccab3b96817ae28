with

source as (

    select * from {{ raw('raw_lookup_tables', {'lookup_table_id': 'text', 'tag': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        lookup_table_id,
        tag,
        ---------- state
        casts.safe_boolean(record ->> 'is_global') as is_global,
        ---------- json
        {{ json_array("record -> 'fields'") }} as fields,
        {{ text_array("record -> 'item_attributes'") }} as item_attributes,
        ---------- quality
        {{ is_unreadable("record ->> 'is_global'", "casts.safe_boolean(record ->> 'is_global')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
