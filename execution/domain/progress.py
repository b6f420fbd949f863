"""What counts as a report of progress."""

from __future__ import annotations

from execution.domain.commands import ReportProgress
from execution.domain.execution import JsonObject
from execution.domain.text import kept
from execution.errors import InvalidProgressError

_NUMBER = (int, float)


def checked_report(percentage: object, message: str | None = None, context: JsonObject | None = None) -> ReportProgress:
    """The command that records a report; its context is a document already.

    Raises:
        InvalidProgressError: no number from 0 to 100.
    """
    return ReportProgress(percentage=checked_percentage(percentage), message=kept(message), context=context)


def checked_percentage(percentage: object) -> float:
    """The percentage as a float.

    Raises:
        InvalidProgressError: no number from 0 to 100.
    """
    if type(percentage) is float and 0 <= percentage <= 100:
        return percentage
    if isinstance(percentage, bool) or not isinstance(percentage, _NUMBER):
        raise InvalidProgressError(percentage, "it must be a number")
    # False for NaN as well, and without turning an integer of any size into a float.
    if not 0 <= percentage <= 100:
        raise InvalidProgressError(percentage, "it must lie between 0 and 100")
    return float(percentage)
