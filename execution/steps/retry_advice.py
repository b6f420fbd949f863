"""Advice on whether to try a failed job again: from what kind of error it was, and a back-off with jitter.

Advice only. Nothing here retries, waits or writes (EXEC-006): the caller decides.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from execution.domain.execution import JsonObject
from execution.domain.retry import NEVER_RETRIED, RetryPolicy
from execution.errors import ExecutionServiceError

ADVISED_POLICY = RetryPolicy(max_attempts=5, initial_delay=1.0, multiplier=2.0, max_delay=300.0, jitter=0.2)

_PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in ("EAGAIN", "EBUSY", "EHOSTUNREACH", "EINTR", "ENETDOWN", "ENETUNREACH", "ENOBUFS", "ETIMEDOUT")
)
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_TYPES = frozenset(
    {
        *(
            "TimeoutError",
            "ConnectionError",
            "ConnectionResetError",
            "ConnectionRefusedError",
            "ConnectionAbortedError",
        ),
        *(
            "BrokenPipeError",
            "start_to_close_timeout",
            "schedule_to_start_timeout",
            "database_unavailable",
            "overloaded",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What kind of error it was."""

    passing: bool
    """May the same attempt succeed later?"""
    why: str
    error_type: str
    wait_at_least: float = 0.0
    """Seconds that whoever refused has asked for."""


def advice(
    error: object, attempt_number: int, policy: RetryPolicy = ADVISED_POLICY, *, chance: Callable[[], float]
) -> JsonObject:
    """`should_retry`, `delay_seconds` and `reason` after attempt number `attempt_number`, which ended with the error.

    `error` is an exception or an execution's `error`; a text says nothing to programs. `chance` gives numbers in 0..1.

    Raises:
        ValueError: attempts are counted from 1.
    """
    if isinstance(attempt_number, bool) or not isinstance(attempt_number, int) or attempt_number < 1:
        raise ValueError(f"attempt_number counts from 1, and is {attempt_number!r}")
    found = classify_error(error)
    if not found.passing:
        return _advice(False, 0.0, f"{found.error_type}: {found.why}")
    if not policy.allows(attempt_number, found.error_type):
        return _advice(
            False, 0.0, f"{found.error_type}: attempt {attempt_number} of {policy.max_attempts} was the last"
        )
    delay = max(policy.delay(attempt_number, chance()), found.wait_at_least)
    why = f"{found.error_type}: {found.why}; attempt {attempt_number} of {policy.max_attempts}"
    return _advice(True, delay, why)


def classify_error(error: object) -> Classified:
    """What kind of error it was. What is not known to pass does not: trying again could do harm twice."""
    if isinstance(error, Mapping):
        return _recorded(str(error.get("type") or "unknown"))
    if not isinstance(error, BaseException):
        return _lasting("what happened is told in words only, which are for people", type(error).__name__)
    name = type(error).__name__
    if not isinstance(error, Exception):
        return _lasting("it was asked to stop", name)
    if isinstance(error, ExecutionServiceError):
        return _own(error)
    return _foreign(error, name)


def _own(error: ExecutionServiceError) -> Classified:
    if error.code in NEVER_RETRIED:
        return _lasting("nobody knows whether it had its effect", error.code)
    wait = getattr(error, "retry_after", 0.0)
    return Classified(
        passing=error.retriable,
        why="the same call may succeed later" if error.retriable else "the same call would fail again",
        error_type=error.code,
        wait_at_least=float(wait or 0.0),
    )


def _recorded(error_type: str) -> Classified:
    if error_type in NEVER_RETRIED:
        return _lasting("nobody knows whether it had its effect", error_type)
    if error_type in _PASSING_TYPES:
        return Classified(passing=True, why="it may pass", error_type=error_type)
    return _lasting("it is not known to pass", error_type)


def _foreign(error: Exception, name: str) -> Classified:
    if isinstance(error, TimeoutError):
        return Classified(passing=True, why="it ran out of time", error_type=name)
    if isinstance(error, ConnectionError):
        return Classified(passing=True, why="the connection failed", error_type=name)
    if isinstance(error, socket.gaierror):
        return Classified(passing=error.errno == socket.EAI_AGAIN, why="a name was not found", error_type=name)
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNOS:
        return Classified(passing=True, why=f"the system says {error.strerror}", error_type=name)
    return _over_http(error, name) or _lasting("it is not known to pass", name)


def _over_http(error: Exception, name: str) -> Classified | None:
    httpx: Any = sys.modules.get("httpx")  # its errors exist only where somebody has imported it
    if httpx is None:
        return None
    if isinstance(error, httpx.UnsupportedProtocol):
        return None
    if isinstance(error, httpx.TransportError):
        return Classified(passing=True, why="the connection failed or ran out of time", error_type=name)
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return Classified(
            passing=status in _PASSING_STATUSES,
            why=f"the answer was {status}",
            error_type=name,
            wait_at_least=_seconds(error.response.headers.get("Retry-After")),
        )
    return None


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0


def _lasting(why: str, error_type: str) -> Classified:
    return Classified(passing=False, why=why, error_type=error_type)


def _advice(should_retry: bool, delay_seconds: float, reason: str) -> JsonObject:
    return {"should_retry": should_retry, "delay_seconds": delay_seconds, "reason": reason}
