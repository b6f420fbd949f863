"""How far one partition has been worked off, where records begin in order and end in any."""

from __future__ import annotations


class PartitionProgress:
    """Says up to where an offset may be committed: everything before it is done, whatever is done behind it."""

    def __init__(self) -> None:
        self._open: dict[int, None] = {}  # in the order they began, so the first is the lowest
        self._next: int | None = None
        self._committed: int | None = None

    @property
    def has_open(self) -> bool:
        """Has something begun and not ended?"""
        return bool(self._open)

    def begin(self, offset: int) -> None:
        """Work on a record begins; its offset is above all before it, not always by one."""
        self._open[offset] = None
        self._next = offset + 1

    def end(self, offset: int) -> None:
        """It is done."""
        del self._open[offset]

    def to_commit(self) -> int | None:
        """The offset to go on from after a restart; None where that has been committed, or nothing has begun."""
        offset = next(iter(self._open), self._next)
        return None if offset == self._committed else offset

    def committed(self, offset: int) -> None:
        """That offset has been committed."""
        self._committed = offset
