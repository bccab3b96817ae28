with

source as (

    select * from {{ raw('raw_ucr_data_sources', {'data_source_id': 'text', 'display_name': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        data_source_id,
        {{ blank_to_null('display_name') }} as display_name,

        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
