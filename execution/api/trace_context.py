"""W3C trace context: the trace that a submission belongs to goes with the execution, to its handler and its events."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from execution.submission import Submission

Traceparent = Annotated[str | None, Header(description="W3C trace context; one that is not valid is ignored.")]


async def _traced(submission: Submission, traceparent: Traceparent = None) -> Submission:
    return submission.traced_by(traceparent)


TracedSubmission = Annotated[Submission, Depends(_traced)]
"""The submission in the body; its `trace_context` is that of the header unless it has one of its own."""
