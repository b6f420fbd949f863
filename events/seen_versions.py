"""Which version of each execution was seen last: what tells a repeat and a gap from what comes next."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple


class Seen(NamedTuple):
    """The last version of an execution. Only where `is_certain` do versions that follow leave a gap."""

    version: int
    is_certain: bool


NEVER = Seen(0, is_certain=False)


class SeenVersions:
    """Remembers a bounded number of executions, those that were heard of last.

    When partitions have been divided anew, others may have read on in the meantime: what is remembered from before
    still tells a repeat, but no gap any more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._versions: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._division = 0

    def __len__(self) -> int:
        return len(self._versions)

    def divided_anew(self) -> None:
        """From now on, whatever comes may come after something that went to others."""
        self._division += 1

    def last(self, subject: str) -> Seen:
        """What was noted of it."""
        version, division = self._versions.get(subject, (0, -1))
        return Seen(version, is_certain=division == self._division)

    def note(self, subject: str, version: int) -> None:
        """It has come to that version."""
        self._versions[subject] = version, self._division
        self._versions.move_to_end(subject)
        if len(self._versions) > self._limit:
            self._versions.popitem(last=False)

    def forget(self, subject: str) -> None:
        """As if it had never been heard of."""
        self._versions.pop(subject, None)
