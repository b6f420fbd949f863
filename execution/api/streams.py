"""The event streams that one process has open: how many there may be, and their end when the process stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from execution.errors import OverloadedError


class OpenStream:
    """One client's stream: what ends it from outside, whatever it is waiting for."""

    def __init__(self) -> None:
        self._body: asyncio.Timeout | None = None
        self._is_to_end = False

    def begin(self, body: asyncio.Timeout) -> None:
        """The stream's body is running inside that block."""
        self._body = body
        if self._is_to_end:
            self.end()

    def end(self) -> None:
        """Leave the body at once, as if its time were over; a second time does nothing."""
        self._is_to_end = True
        if self._body is not None and not self._body.expired():
            self._body.reschedule(asyncio.get_running_loop().time())


class OpenStreams:
    """All of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[OpenStream] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self) -> Iterator[OpenStream]:
        """A place for one more, for the length of the block.

        Raises:
            OverloadedError: there is none.
        """
        if self._is_closed:
            raise OverloadedError("this process is about to stop")
        if len(self._open) >= self._limit:
            raise OverloadedError(f"{self._limit:,} event streams are open already")
        stream = OpenStream()
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)

    def close(self) -> None:
        """End them all, and take no more: the process stops, and clients go on elsewhere."""
        self._is_closed = True
        for stream in self._open:
            stream.end()
