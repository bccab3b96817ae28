with

source as (

    select * from {{ raw('raw_location_types', {'location_type_id': 'text', 'code': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        location_type_id,
        code,
        {{ blank_to_null("record ->> 'name'") }} as name,
        substring(record ->> 'parent' from '([^/]+)/?$') as parent_location_type_id,
        ---------- rules
        casts.safe_boolean(record ->> 'administrative') as is_administrative,
        casts.safe_boolean(record ->> 'shares_cases') as shares_cases,
        casts.safe_boolean(record ->> 'view_descendants') as view_descendants,

        ---------- quality
        {{ is_unreadable("record ->> 'administrative'", "casts.safe_boolean(record ->> 'administrative')") }}
        or {{ is_unreadable("record ->> 'shares_cases'", "casts.safe_boolean(record ->> 'shares_cases')") }}
        or {{ is_unreadable("record ->> 'view_descendants'", "casts.safe_boolean(record ->> 'view_descendants')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
