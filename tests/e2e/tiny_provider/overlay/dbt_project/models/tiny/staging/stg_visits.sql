select
    visit_key,
    plant_id,
    (record ->> 'day')::date as day,
    record ->> 'note' as note,
    _loaded_at as loaded_at
from {{ raw('raw_visits', {'visit_key': 'text', 'plant_id': 'bigint'}) }}
where _deleted_at is null
