with

data_sources as (

    select * from {{ ref('stg_ucr_data_sources') }}

)

select
    data_source_id,
    display_name
from data_sources
