with

source as (

    select * from {{ raw('raw_locations', {'location_id': 'text', 'site_code': 'text', 'parent_location_id': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        location_id,
        site_code,
        {{ blank_to_null('parent_location_id') }} as parent_location_id,
        ---------- place
        {{ blank_to_null("record ->> 'name'") }} as name,
        {{ blank_to_null("record ->> 'location_type_code'") }} as location_type_code,
        {{ blank_to_null("record ->> 'location_type_name'") }} as location_type_name,
        casts.safe_numeric(record ->> 'latitude') as latitude,
        casts.safe_numeric(record ->> 'longitude') as longitude,
        ---------- json
        {{ json_object("record -> 'location_data'") }} as location_data,
        ---------- timestamps
        casts.safe_timestamptz(record ->> 'last_modified') as last_modified,
        ---------- quality
        {{ is_unreadable("record ->> 'latitude'", "casts.safe_numeric(record ->> 'latitude')") }}
        or {{ is_unreadable("record ->> 'longitude'", "casts.safe_numeric(record ->> 'longitude')") }}
        or {{ is_unreadable("record ->> 'last_modified'", "casts.safe_timestamptz(record ->> 'last_modified')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
