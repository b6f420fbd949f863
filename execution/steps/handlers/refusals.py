"""Why a step was not done, or did not work: a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   ├── InvalidStepError                the step's target or parameters are not what its handler takes
│   └── StepNotAllowedError             nobody has allowed what the step asks for
│       ├── ProgramNotAllowedError
│       ├── VariableNotAllowedError     of the program's environment
│       ├── OriginNotAllowedError
│       ├── AddressNotAllowedError      where a host's name leads to
│       └── HeaderNotAllowedError
├── ProgramNotStartedError
├── FileNotWrittenError
└── RequestFailedError                  no usable answer came
"""

from __future__ import annotations

from execution.errors import ExecutionServiceError, InvalidRequestError


class InvalidStepError(InvalidRequestError):
    """The step's target or parameters are not what its handler takes; nothing was done."""

    code = "invalid_step"

    def __init__(self, step_type: str, problem: str) -> None:
        super().__init__(f"A step {step_type!r} is refused: {problem}.")


class StepNotAllowedError(InvalidRequestError):
    """Nobody has allowed what the step asks for; nothing was done."""

    code = "step_not_allowed"
    status = 403


class ProgramNotAllowedError(StepNotAllowedError):
    """The program is not on the list."""

    code = "program_not_allowed"

    def __init__(self, program: str) -> None:
        super().__init__(
            f"Program {program!r} is not one of EXECUTION_STEPS_SHELL_PROGRAMS. Name one as it stands there, or by its "
            "last part, or add this one's absolute path."
        )


class VariableNotAllowedError(StepNotAllowedError):
    """Steps may not set this environment variable."""

    code = "variable_not_allowed"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Environment variable {name!r} is not one of EXECUTION_STEPS_SHELL_VARIABLES. Leave it out, or add it."
        )


class OriginNotAllowedError(StepNotAllowedError):
    """The scheme, host and port are not on the list."""

    code = "origin_not_allowed"

    def __init__(self, origin: str) -> None:
        super().__init__(f"Requests to {origin} are not allowed. Add it to EXECUTION_STEPS_HTTP_ORIGINS.")


class AddressNotAllowedError(StepNotAllowedError):
    """The host leads to an address inside; the message does not say which, that would be a map of the inside."""

    code = "address_not_allowed"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} leads to an address that is not public. Name another host, or add the network to "
            "EXECUTION_STEPS_HTTP_PRIVATE_NETWORKS."
        )


class HeaderNotAllowedError(StepNotAllowedError):
    """Steps may not send this header; its value, which may be a secret, is not repeated."""

    code = "header_not_allowed"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Header {name!r} is not one of EXECUTION_STEPS_HTTP_HEADERS. Add it there if its values are no secrets: "
            "they stand in plans and evidence. Secrets belong into EXECUTION_STEPS_HTTP_CREDENTIALS."
        )


class ProgramNotStartedError(ExecutionServiceError):
    """The system did not start the program; nothing was done."""

    code = "program_not_started"

    def __init__(self, program: str, problem: str) -> None:
        super().__init__(f"Program {program} was not started: {problem}.")


class FileNotWrittenError(ExecutionServiceError):
    """The file could not be written; what was there before is there still."""

    code = "file_not_written"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"File {path!r} was not written: {problem}.")


class RequestFailedError(ExecutionServiceError):
    """No usable answer came; the request may have had its effect."""

    code = "request_failed"
    status = 502
    retriable = True

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"The request to {where} failed: {problem}.")
