with

source as (

    select * from {{ raw('raw_groups', {'group_id': 'text', 'name': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        group_id,
        name,
        {{ text_array("record -> 'users'") }} as user_ids,
        ---------- state
        casts.safe_boolean(record ->> 'case_sharing') as case_sharing,
        casts.safe_boolean(record ->> 'reporting') as reporting,
        ---------- json
        {{ json_object("record -> 'metadata'") }} as metadata,
        ---------- quality
        {{ is_unreadable("record ->> 'case_sharing'", "casts.safe_boolean(record ->> 'case_sharing')") }}
        or {{ is_unreadable("record ->> 'reporting'", "casts.safe_boolean(record ->> 'reporting')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
