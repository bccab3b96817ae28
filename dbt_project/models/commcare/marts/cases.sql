with

cases as (

    select * from {{ ref('stg_cases') }}

)

select
    case_id,
    case_type,
    case_name,
    external_id,
    owner_id,
    date_opened,
    last_modified,
    server_last_modified,
    indexed_on,
    closed,
    date_closed,
    properties,
    indices
from cases
where {{ is_wanted('case_id') }}
