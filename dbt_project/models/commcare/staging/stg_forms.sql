with

source as (

    select * from {{ raw('raw_forms', {'form_id': 'text', 'app_id': 'text', 'received_on': 'timestamptz', 'server_modified_on': 'timestamptz', 'indexed_on': 'timestamptz', 'archived': 'boolean'}) }}

),

renamed as (

    select

        ---------- ids
        form_id,
        {{ blank_to_null("record #>> '{form,@xmlns}'") }} as xmlns,
        {{ blank_to_null("record #>> '{form,@name}'") }} as form_name,
        {{ blank_to_null('app_id') }} as app_id,
        {{ blank_to_null("record ->> 'build_id'") }} as build_id,
        {{ blank_to_null("record #>> '{metadata,userID}'") }} as user_id,
        {{ blank_to_null("record #>> '{metadata,username}'") }} as username,
        ---------- state
        coalesce(archived, false) as archived,
        ---------- json
        {{ json_object("record -> 'form'") }} as form,
        {{ json_object("record -> 'metadata'") }} as metadata,
        {{ json_object("record -> 'attachments'") }} as attachments,
        ---------- timestamps
        received_on,
        server_modified_on,
        indexed_on,
        casts.safe_timestamptz(record #>> '{metadata,timeStart}') as time_start,
        casts.safe_timestamptz(record #>> '{metadata,timeEnd}') as time_end,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
