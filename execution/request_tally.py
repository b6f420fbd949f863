"""What the HTTP door has answered."""

from __future__ import annotations

from execution.durations import Durations

REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestTally:
    """Counts of one process. A stream is in flight until it begins, and open from then on."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.open_streams = 0
        self.sent_bytes = 0
        """Of the bodies of answers."""
        self.replays = 0
        """Answers that were first given to an earlier request with the same key."""
        self.rate_limited = 0
        self.overloaded = 0
        """Refused because too many were in flight, before anything was done for them."""
        self.answered: dict[tuple[str, str, int], Durations] = {}
        """By method, route template and status; of a stream, the time to its beginning."""

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        key = (method, route, status)
        durations = self.answered.get(key)
        if durations is None:
            durations = self.answered[key] = Durations(REQUEST_BOUNDS)
        durations.add(seconds)
