"""What every door refuses, a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   ├── MalformedRequestError           not readable as what it claims to be
│   ├── InvalidFieldsError              readable, but fields are missing, unknown or wrong
│   ├── RequestTooLargeError            body
│   └── DocumentTooComplexError         too deep, or of too many or too long parts
└── PreconditionFailedError             the execution is not at the version that was expected
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


class PreconditionFailedError(ExecutionServiceError):
    """The execution is not at the version that was expected (`If-Match`)."""

    code = "precondition_failed"
    status = 412

    def __init__(self, execution_id: UUID) -> None:
        super().__init__(
            f"Execution {execution_id} is not at the version that was expected (If-Match). "
            "Read it again and decide anew."
        )
