"""What only the HTTP door refuses, a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   └── HeadTooLargeError               address and headers
├── VersionNotReachedError
├── RouteNotFoundError
├── MethodNotAllowedError
├── PreconditionRequiredError
├── RequestIncompleteError              the body did not arrive in time
├── RequestTimeoutError                 the answer was not ready in time
└── UnsupportedMediaTypeError
"""

from __future__ import annotations

from uuid import UUID

from execution.errors import ExecutionServiceError, InvalidRequestError


class HeadTooLargeError(InvalidRequestError):
    """The address and the headers of a request have too many bytes; the connection ends with this answer."""

    code = "head_too_large"
    status = 431
    facts = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"The address and headers of the request have more than {limit:,} bytes. Send fewer or less.")


class RequestIncompleteError(ExecutionServiceError):
    """The body did not arrive within the time a request is given; nothing was done."""

    code = "request_incomplete"
    status = 408
    retriable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body had not arrived after {seconds:g} s. Send the request again.")


class RequestTimeoutError(ExecutionServiceError):
    """The answer was not ready in time; what the request asked for may have been done, or may still be."""

    code = "request_timeout"
    status = 503
    retriable = True

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"There was no answer after {seconds:g} s. What was asked for may have been done: "
            "send it again under the same Idempotency-Key, or read before repeating."
        )


class VersionNotReachedError(ExecutionServiceError):
    """The execution has no such version yet."""

    code = "version_not_reached"
    status = 404

    def __init__(self, execution_id: UUID, version: int) -> None:
        super().__init__(f"Execution {execution_id} has not reached version {version}. Read it to see where it is.")


class RouteNotFoundError(ExecutionServiceError):
    """Nothing is served under that path."""

    code = "route_not_found"
    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(
            f"Nothing is served under {path!r}. See /openapi.json for what is; an execution's id is a UUID."
        )


class MethodNotAllowedError(ExecutionServiceError):
    """The path is served, but not by that method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"{method} is not served under {path!r}; the Allow header names what is.")


class PreconditionRequiredError(ExecutionServiceError):
    """Commands need If-Match here (`EXECUTION_REQUIRE_IF_MATCH`)."""

    code = "precondition_required"
    status = 428

    def __init__(self) -> None:
        super().__init__("This service demands If-Match on commands. Send the ETag of the execution you decided on.")


class UnsupportedMediaTypeError(ExecutionServiceError):
    """A body that is not JSON."""

    code = "unsupported_media_type"
    status = 415

    def __init__(self, media_type: str) -> None:
        super().__init__(f"A body of type {media_type or 'nothing'!r} is not understood; send application/json.")
