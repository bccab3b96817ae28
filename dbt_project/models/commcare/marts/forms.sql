with

forms as (

    select * from {{ ref('stg_forms') }}

)

select
    form_id,
    xmlns,
    form_name,
    app_id,
    build_id,
    time_start,
    time_end,
    received_on,
    server_modified_on,
    indexed_on,
    user_id,
    username,
    archived,
    form,
    metadata,
    attachments
from forms
where {{ is_wanted('form_id') }}
