"""The size of the next page."""

from explorer.extract.pages import PAGE_MAX_BYTES, PageSize


def test_page_sizes_follow_bytes_and_time() -> None:
    size = PageSize(1000, 5000)
    size.note(1000, 1000, 1_000_000, 0.3)
    assert size.current == 5000
    size.note(5000, 5000, 5_000_000, 12.0)
    assert size.current == 2500
    size.note(2500, 2500, 2 * PAGE_MAX_BYTES, 1.0)
    assert size.current == 1250
    size.shrink(1250)
    assert size.current == 312
    for _ in range(100):
        size.note(size.current, size.current, size.current * 1000, 0.3)
    assert size.current > 4000


def test_a_short_or_slow_page_is_no_reason_to_grow() -> None:
    size = PageSize(1000, 5000)
    size.note(1000, 10, 10_000, 0.1)
    size.note(1000, 1000, 1_000_000, 6.0)
    assert size.current == 1000
