with

plants as (

    select * from {{ source('tiny', 'plants') }}

),

visits as (

    select * from {{ source('tiny', 'visits') }}

)

select
    plants.plant_id,
    plants.name,
    count(visits.visit_key) as visits,
    max(visits.day) as last_visit_on
from plants
left join visits on plants.plant_id = visits.plant_id
group by plants.plant_id, plants.name
