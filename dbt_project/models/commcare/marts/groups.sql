with

groups as (

    select * from {{ ref('stg_groups') }}

)

select
    group_id,
    name,
    case_sharing,
    reporting,
    user_ids,
    metadata
from groups
