with

ucr_rows as (

    select * from {{ ref('stg_ucr_rows') }}

),

data_sources as (

    select data_source_id, display_name from {{ ref('stg_ucr_data_sources') }}

)

select
    ucr_rows.row_id,
    ucr_rows.data_source_id,
    data_sources.display_name as data_source_name,
    ucr_rows.doc_id,
    ucr_rows.repeat_iteration,
    ucr_rows.inserted_at,
    ucr_rows.indicators
from ucr_rows
left join data_sources on ucr_rows.data_source_id = data_sources.data_source_id
