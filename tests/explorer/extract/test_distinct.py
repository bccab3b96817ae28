"""The set of distinct ids."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from explorer.extract.distinct import DistinctIds


@given(st.lists(st.lists(st.integers(0, 300).map(str), max_size=400), max_size=8))
def test_distinct_ids_are_counted_like_a_set_does(batches: list[list[str]]) -> None:
    ids, truth = DistinctIds(few=100), set[str]()
    for batch in batches:
        again = []
        for identity in batch:
            if identity in truth:
                again.append(identity)
            truth.add(identity)
        assert (ids.add(batch), len(ids)) == (again, len(truth))


def test_ids_take_little_memory() -> None:
    ids = DistinctIds(few=1000)
    tracemalloc.start()
    try:
        for start in range(0, 40_000, 1000):
            assert not ids.add([str(start + number) for number in range(1000)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / 40_000 < 45
