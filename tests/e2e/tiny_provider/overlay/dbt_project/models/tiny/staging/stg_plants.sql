select
    id as plant_id,
    name,
    (record ->> 'height_cm')::bigint as height_cm,
    _loaded_at as loaded_at
from {{ raw('raw_plants', {'id': 'bigint', 'name': 'text'}) }}
where _deleted_at is null
