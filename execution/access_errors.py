"""Errors about who calls, how often, and what was asked before: a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   ├── InvalidIdempotencyKeyError
│   └── IdempotencyKeyReusedError       for another request
├── IdempotencyKeyInProgressError
├── UnauthenticatedError                who calls is not established
│   ├── ApiKeyMissingError
│   └── InvalidApiKeyError              mistyped, unknown, expired or revoked
├── InsufficientScopeError
├── RateLimitedError
└── ApiKeyNotFoundError
"""

from __future__ import annotations

from collections.abc import Iterable

from execution.errors import ExecutionServiceError, InvalidRequestError


class UnauthenticatedError(ExecutionServiceError):
    """It is not established who calls."""

    code = "unauthenticated"
    status = 401


class ApiKeyMissingError(UnauthenticatedError):
    """The request names no API key, and needs one."""

    code = "api_key_missing"

    def __init__(self) -> None:
        super().__init__("An API key is needed. Send it as `Authorization: Bearer KEY`.")


class InvalidApiKeyError(UnauthenticatedError):
    """The API key is not one, or not one that is accepted; the message never repeats it."""

    code = "invalid_api_key"

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The API key is not accepted: {problem}. Send one that is, as `Authorization: Bearer KEY`.")


class InsufficientScopeError(ExecutionServiceError):
    """The API key is accepted, but not for this."""

    code = "insufficient_scope"
    status = 403

    facts = ("needed",)

    def __init__(self, needed: str, held: Iterable[str]) -> None:
        self.needed = str(needed)
        super().__init__(
            f"This needs the scope {self.needed!r}; the API key has {', '.join(sorted(held)) or 'none'}. "
            "Use another key."
        )


class RateLimitedError(ExecutionServiceError):
    """The caller sends more requests than it may; this one was not looked at."""

    code = "rate_limited"
    status = 429
    retriable = True

    def __init__(self, what: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"Too many {what}. Send this one again after {retry_after:.1f} s.")


class ApiKeyNotFoundError(ExecutionServiceError):
    """No API key of that id or prefix."""

    code = "api_key_not_found"
    status = 404

    def __init__(self, id_or_prefix: str) -> None:
        super().__init__(f"There is no API key {id_or_prefix!r}. `execution keys list` shows their ids and prefixes.")


class InvalidIdempotencyKeyError(InvalidRequestError):
    """The key is not one that can be kept."""

    code = "invalid_idempotency_key"
    status = 400

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"The idempotency key cannot be used: {problem}. "
            "Send one key of 1 to 255 visible ASCII characters, such as a new UUID for each request."
        )


class IdempotencyKeyReusedError(InvalidRequestError):
    """The key was used for another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"The idempotency key {key!r} was used for another request. "
            "Repeat that request exactly, or send this one under a new key."
        )


class IdempotencyKeyInProgressError(ExecutionServiceError):
    """The request under this key is being carried out right now."""

    code = "idempotency_key_in_progress"
    status = 409
    retriable = True

    def __init__(self, key: str, retry_after: float) -> None:
        self.key = key
        self.retry_after = retry_after
        super().__init__(
            f"The request under the idempotency key {key!r} is still being carried out. Repeat it a little later, "
            "exactly as it is, to be given its answer."
        )
