with

source as (

    select * from {{ raw('raw_cases', {'case_id': 'text', 'case_type': 'text', 'owner_id': 'text', 'closed': 'boolean', 'indexed_on': 'timestamptz', 'server_last_modified': 'timestamptz'}) }}

),

renamed as (

    select

        ---------- ids
        case_id,
        case_type,
        {{ blank_to_null("record ->> 'case_name'") }} as case_name,
        {{ blank_to_null("record ->> 'external_id'") }} as external_id,
        {{ blank_to_null('owner_id') }} as owner_id,
        ---------- state
        closed,
        ---------- json
        {{ json_object("record -> 'properties'") }} as properties,
        {{ json_object("record -> 'indices'") }} as indices,
        ---------- timestamps
        casts.safe_timestamptz(record ->> 'date_opened') as date_opened,
        casts.safe_timestamptz(record ->> 'last_modified') as last_modified,
        server_last_modified,
        indexed_on,
        casts.safe_timestamptz(record ->> 'date_closed') as date_closed,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
