with

source as (

    select * from {{ raw('raw_ucr_rows', {'row_id': 'text', 'data_source_id': 'text', 'doc_id': 'text', 'inserted_at': 'timestamptz'}) }}

),

renamed as (

    select

        ---------- ids
        row_id,
        data_source_id,
        {{ blank_to_null('doc_id') }} as doc_id,
        casts.safe_bigint(record ->> 'repeat_iteration') as repeat_iteration,
        ---------- json
        {{ json_object('record') }} - array['id', 'doc_id', 'inserted_at', 'repeat_iteration'] as indicators,
        ---------- timestamps
        inserted_at,

        ---------- quality
        {{ is_unreadable("record ->> 'repeat_iteration'", "casts.safe_bigint(record ->> 'repeat_iteration')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
