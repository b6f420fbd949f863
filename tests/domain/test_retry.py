"""The retry policy: how often, how soon, after what."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.retry import NEVER_RETRIED, RetryPolicy


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    low, high = sorted([draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6))])
    return RetryPolicy(
        max_attempts=draw(st.integers(1, 1000)),
        initial_delay=low,
        max_delay=high,
        multiplier=draw(st.floats(1, 1000)),
        jitter=draw(st.floats(0, 1)),
        error_types=tuple(draw(st.lists(st.text(max_size=5), max_size=3))),
    )


@pytest.mark.parametrize(
    ("attempt", "error_types", "error_type", "allowed"),
    [
        (1, (), "Boom", True),
        (2, (), "Boom", True),
        (3, (), "Boom", False),
        (4, (), "Boom", False),
        (1, ("Boom",), "Boom", True),
        (1, ("Timeout",), "Boom", False),
        (1, ("outcome_unknown",), "outcome_unknown", False),
        (1, (), "abandoned", False),
    ],
)
def test_whether_another_attempt_follows(
    attempt: int, error_types: tuple[str, ...], error_type: str, allowed: bool
) -> None:
    assert RetryPolicy(max_attempts=3, error_types=error_types).allows(attempt, error_type) == allowed


def test_what_is_never_retried() -> None:
    assert {"outcome_unknown", "abandoned"} == NEVER_RETRIED


def test_delays_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(initial_delay=1, multiplier=3, max_delay=10, jitter=0)
    assert [policy.delay(attempt, 0.5) for attempt in (1, 2, 3, 4, 1000)] == [1, 3, 9, 10, 10]


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 7.5), (0.25, 8.75), (0.5, 10.0), (1.0, 12.5)])
def test_chance_places_the_delay_within_the_jitter(chance: float, delay: float) -> None:
    assert RetryPolicy(initial_delay=10, jitter=0.25).delay(1, chance) == delay


@given(policies(), st.integers(1, 1000), st.floats(0, 1))
def test_a_delay_is_a_bounded_number_of_seconds(policy: RetryPolicy, attempt: int, chance: float) -> None:
    delay = policy.delay(attempt, chance)
    assert math.isfinite(delay)
    # The last digit of a product of floats is not worth a failure.
    assert 0 <= delay <= policy.max_delay * (1 + policy.jitter) * (1 + 1e-12)


@given(policies())
def test_a_policy_survives_the_log(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_json(orjson.loads(orjson.dumps(policy.to_json()))) == policy


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 1001},
        {"initial_delay": -1},
        {"initial_delay": 10, "max_delay": 5},
        {"max_delay": 31_536_001},
        {"initial_delay": math.nan},
        {"multiplier": 0.5},
        {"multiplier": math.inf},
        {"multiplier": math.nan},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"jitter": math.nan},
    ],
)
def test_a_policy_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        RetryPolicy(**wrong)
