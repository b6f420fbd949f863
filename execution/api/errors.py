"""What only the HTTP door refuses, a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   ├── MalformedRequestError           not readable as what it claims to be
│   ├── InvalidFieldsError              readable, but fields are missing, unknown or wrong
│   ├── HeadTooLargeError               address and headers
│   ├── RequestTooLargeError            body
│   └── DocumentTooComplexError         too deep, or of too many or too long parts
├── VersionNotReachedError
├── RouteNotFoundError
├── MethodNotAllowedError
├── PreconditionFailedError             If-Match names another version
├── PreconditionRequiredError
├── RequestIncompleteError              the body did not arrive in time
├── RequestTimeoutError                 the answer was not ready in time
└── UnsupportedMediaTypeError
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from execution.domain.execution import JsonObject
from execution.errors import ExecutionServiceError, InvalidRequestError


class MalformedRequestError(InvalidRequestError):
    """The body is not JSON, or a header does not follow its grammar."""

    code = "malformed_request"
    status = 400

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what} cannot be read: {problem}.")


class InvalidFieldsError(InvalidRequestError):
    """Fields or parameters of the request are missing, unknown, or not what they should be."""

    code = "invalid_fields"
    facts = ("errors",)

    def __init__(self, errors: Sequence[JsonObject]) -> None:
        self.errors = list(errors)
        said = "; ".join(f"{one['in']} {one['pointer']}: {one['message']}" for one in self.errors[:3])
        super().__init__(f"The request has {len(self.errors)} invalid field(s): {said}.")


class RequestTooLargeError(InvalidRequestError):
    """The body has more bytes than this route takes (`EXECUTION_REQUEST_LIMIT_BYTES`)."""

    code = "request_too_large"
    status = 413
    facts = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"The body has more than {limit:,} bytes. "
            "Send less at once, or keep the content elsewhere and pass its location."
        )


class DocumentTooComplexError(InvalidRequestError):
    """The body is nested too deeply, or has too many or too long parts."""

    code = "document_too_complex"
    facts = ("what", "count", "limit")

    def __init__(self, what: str, count: int, limit: int) -> None:
        self.what, self.count, self.limit = what, count, limit
        super().__init__(f"The body has {count:,} {what}; at most {limit:,} are taken. Send a plainer document.")


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
        super().__init__(f"Nothing is served under {path!r}. See /openapi.json for what is.")


class MethodNotAllowedError(ExecutionServiceError):
    """The path is served, but not by that method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"{method} is not served under {path!r}; the Allow header names what is.")


class PreconditionFailedError(ExecutionServiceError):
    """The execution is not at a version that If-Match names."""

    code = "precondition_failed"
    status = 412

    def __init__(self, execution_id: UUID) -> None:
        super().__init__(
            f"Execution {execution_id} is not at the version that If-Match names. Read it again and decide anew."
        )


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
