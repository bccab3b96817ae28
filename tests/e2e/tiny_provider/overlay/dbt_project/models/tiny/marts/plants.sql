select plant_id, name, height_cm from {{ ref('stg_plants') }}
