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
        """Refused because there was no room, before anything was done for them."""
        self.connections = 0
        self.cut_connections = 0
        """Cut as soon as they were made, because far too many were open."""
        self.answered: dict[tuple[str, str, int], Durations] = {}
        """By method, route template and status; of a stream, the time to its beginning."""

    def refuse(self, method: str, route: str, status: int, size: int) -> None:
        """Count a request that was refused as overload, in next to no time."""
        self.overloaded += 1
        self.sent_bytes += size
        self.note(method, route, status, 0.0)

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        key = (method, route, status)
        durations = self.answered.get(key)
        if durations is None:
            durations = self.answered[key] = Durations(REQUEST_BOUNDS)
        durations.add(seconds)
