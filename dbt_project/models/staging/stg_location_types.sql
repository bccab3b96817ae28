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
        {{ any_unreadable({'administrative': 'safe_boolean', 'shares_cases': 'safe_boolean', 'view_descendants': 'safe_boolean'}) }} as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
