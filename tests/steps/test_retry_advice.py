"""Retry advice: which errors may pass, how long to wait, and that nothing is done."""

from __future__ import annotations

import asyncio
import errno
import socket
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest

from execution.access_errors import RateLimitedError
from execution.domain.retry import RetryPolicy
from execution.errors import (
    DatabaseUnavailableError,
    InvalidDocumentError,
    OutcomeUnknownError,
    VersionConflict,
)
from execution.steps.coordination_errors import ScopeUsedUpError
from execution.steps.retry_advice import ADVISED_POLICY, advice, classify_error

AN_ID = UUID(int=1)
PLAIN = RetryPolicy(max_attempts=4, initial_delay=2.0, multiplier=3.0, max_delay=10.0, jitter=0.0)


def answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://127.0.0.1/")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(status, headers=headers))


class Foreign(Exception):  # noqa: N818 - somebody else's
    retriable = True
    """Says nothing to us: whose word it is, nobody knows."""


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (BrokenPipeError(), True),
        (OSError(errno.ENETUNREACH, "unreachable"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), True),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), False),
        (DatabaseUnavailableError("A statement", "nobody answers"), True),
        (VersionConflict(AN_ID, 3), True),
        (InvalidDocumentError("it", "no"), False),
        (ScopeUsedUpError("restart", "i-1", AN_ID), False),
        (OutcomeUnknownError("Appending"), False),
        (httpx.ConnectTimeout("slow"), True),
        (httpx.ReadError("cut"), True),
        (httpx.UnsupportedProtocol("gopher"), False),
        (answered(503), True),
        (answered(429), True),
        (answered(404), False),
        (ValueError("a bug"), False),
        (Foreign(), False),
        (asyncio.CancelledError(), False),
        (KeyboardInterrupt(), False),
        ({"type": "TimeoutError", "message": "m"}, True),
        ({"type": "outcome_unknown", "message": "m"}, False),
        ({"type": "abandoned"}, False),
        ({"type": "Boom"}, False),
        ({}, False),
        ("connection reset", False),
        (None, False),
    ],
    ids=repr,
)
def test_which_errors_may_pass(error: object, passing: bool) -> None:
    assert classify_error(error).passing == passing
    given = advice(error, 1, chance=lambda: 0.5)
    assert given.keys() == {"should_retry", "delay_seconds", "reason"}
    assert given["should_retry"] == passing
    assert (given["delay_seconds"] > 0) == passing
    assert given["reason"]


def test_the_delay_grows_to_its_bound_and_the_attempts_end() -> None:
    given = [advice(TimeoutError(), attempt, PLAIN, chance=lambda: 0.5) for attempt in range(1, 6)]
    assert [one["delay_seconds"] for one in given] == [2.0, 6.0, 10.0, 0.0, 0.0]
    assert [one["should_retry"] for one in given] == [True, True, True, False, False]
    assert given[3]["reason"] == "TimeoutError: attempt 4 of 4 was the last"


def test_chance_places_it_within_the_jitter(chance: Random) -> None:
    delays = [advice(TimeoutError(), 1, chance=chance.random)["delay_seconds"] for _ in range(200)]
    assert 0.8 <= min(delays) < 0.9
    assert 1.1 < max(delays) <= 1.2
    assert ADVISED_POLICY.jitter == 0.2


@pytest.mark.parametrize(
    "error", [RateLimitedError("requests", 30.0), answered(503, **{"Retry-After": "30"})], ids=["own", "http"]
)
def test_who_asks_to_be_left_alone_is(error: Exception) -> None:
    assert advice(error, 1, chance=lambda: 0.5)["delay_seconds"] == 30.0


def test_a_date_to_wait_for_is_not_read() -> None:
    error = answered(503, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert advice(error, 1, chance=lambda: 0.5)["delay_seconds"] == 1.0


@pytest.mark.parametrize("attempt_number", [0, -1, True, 1.5, "1", None])
def test_attempts_are_counted_from_one(attempt_number: Any) -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        advice(TimeoutError(), attempt_number, chance=lambda: 0.5)
