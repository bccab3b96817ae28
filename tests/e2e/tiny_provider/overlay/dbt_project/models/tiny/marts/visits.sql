select visit_key, plant_id, day, note from {{ ref('stg_visits') }}
