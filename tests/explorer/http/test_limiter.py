"""The request rate of one process: its ceiling, the effect of a 429, and the number of parallel requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.http import constants
from explorer.http import limiter as module
from explorer.http.limiter import Paused, ProcessSlots, RateLimiter


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, duration_s: float) -> None:
        self.now += duration_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@given(
    rate=st.floats(0.1, 200),
    steps=st.lists(
        st.one_of(st.just("ask"), st.floats(0, 3), st.tuples(st.just("pause"), st.floats(0, 30))), max_size=80
    ),
)
def test_no_second_sees_more_than_twice_the_rate_and_no_pause_sees_any(rate: float, steps: list[object]) -> None:
    """One second's worth may have been saved up, one more comes in."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", clock)
        slots = ProcessSlots()
        sent: list[float] = []
        paused_until = 0.0
        for step in steps:
            if step == "ask":
                wait_s, _ = slots.reserve(rate)
                sent.append(clock.now + max(0.0, wait_s))
                assert sent[-1] >= paused_until - 1e-6
            elif isinstance(step, tuple):
                slots.pause(step[1])
                paused_until = max(paused_until, clock.now + step[1])
            elif isinstance(step, float):
                clock.sleep(step)
    for at in sent:
        assert sum(at <= other < at + 1 - 1e-6 for other in sent) <= 2 * max(1.0, rate) + 1


def test_a_429_halves_the_rate_once_and_it_grows_back(clock: Clock) -> None:
    limiter = RateLimiter(16)
    assert limiter.rate == 16
    for _ in range(5):
        limiter.pause(2)
    assert limiter.rate == 8
    clock.sleep(2.5)
    limiter.pause(2)
    assert 4 <= limiter.rate < 5
    clock.sleep(2 + constants.RATE_RECOVERY_S)
    assert limiter.rate == 16
    for _ in range(20):
        limiter.pause(1)
        clock.sleep(1)
    assert limiter.rate >= 16 * constants.RATE_MIN_PART


@pytest.mark.parametrize(("latency_s", "parallel"), [(0.0, 1), (0.01, 1), (0.3, 6), (0.31, 7), (10.0, 16)])
def test_parallelism_is_what_the_rate_can_keep_going(latency_s: float, parallel: int) -> None:
    assert RateLimiter(20).allowed_parallelism(latency_s) == parallel


def test_parallelism_falls_after_a_429(clock: Clock) -> None:
    limiter = RateLimiter(20)
    limiter.pause(1)
    assert limiter.allowed_parallelism(0.3) == 3


def test_a_pause_of_days_is_kept_for_an_hour(clock: Clock) -> None:
    limiter = RateLimiter(20)
    limiter.pause(7 * 86_400)
    with pytest.raises(Paused) as caught:
        limiter.wait(clock.sleep, longest_pause_s=120)
    assert caught.value.remaining_s == constants.PAUSE_MAX_S
    clock.sleep(constants.PAUSE_MAX_S + 1)
    limiter.wait(clock.sleep, longest_pause_s=120)
