"""What a lane has done since its process began: for metrics, counted once per batch."""

from __future__ import annotations

from msgspec import Struct


class LaneCounts(Struct):
    """Counts of one lane. `seconds` go from the arguments of a batch's statement to its answer."""

    batches: int = 0
    appends: int = 0
    """Written in those batches."""
    seconds: float = 0.0
    refused: int = 0
    """Appends whose row was not as expected."""
    reconnects: int = 0
