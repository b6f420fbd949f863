"""W3C trace context: the trace that a submission belongs to goes with the execution, to its handler and its events."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header

from execution.submission import Submission

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Traceparent = Annotated[str | None, Header(description="W3C trace context; one that is not valid is ignored.")]


async def _traced(submission: Submission, traceparent: Traceparent = None) -> Submission:
    """With what its sender is traced by. Where that is malformed, the standard asks to go on without, not to refuse."""
    if submission.trace_context is None and traceparent and _TRACEPARENT.fullmatch(traceparent):
        return submission.model_copy(update={"trace_context": traceparent})
    return submission


TracedSubmission = Annotated[Submission, Depends(_traced)]
"""The submission in the body; its `trace_context` is that of the header unless it has one of its own."""
