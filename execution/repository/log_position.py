"""Where a reader of the log of all executions is, as a value that can be handed to a client and taken back from it."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from itertools import pairwise
from typing import Self
from uuid import UUID

from execution.errors import InvalidPositionError

_SNAPSHOT = re.compile(r"(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,8192}", re.ASCII)
_MOST_XID = 2**63 - 1
_MOST_VERSION = 2**31 - 1


@dataclass(frozen=True)
class LogPosition:
    """Which transactions have been seen: PostgreSQL's `pg_snapshot`. Its text is what PostgreSQL understands."""

    xmin: int
    """Every transaction before it has been seen, or will never be."""
    xmax: int
    """None from it on has been seen."""
    unseen: tuple[int, ...] = ()
    """Those in between that were under way."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for whatever PostgreSQL would not accept."""
        match = _SNAPSHOT.fullmatch(text)
        if match is None:
            raise ValueError("not a snapshot")
        xmin, xmax = int(match[1]), int(match[2])
        unseen = tuple(int(xid) for xid in match[3].split(",")) if match[3] else ()
        ascending = all(low < high for low, high in pairwise((xmin - 1, *unseen, xmax)))
        if not ascending or xmin < 1 or xmax > _MOST_XID:
            raise ValueError("not a snapshot that there can be")
        return cls(xmin, xmax, unseen)

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.unseen))}"

    def before(self, xid: int) -> LogPosition:
        """What of it has been seen before a transaction."""
        if xid >= self.xmax:
            return self
        return LogPosition(min(self.xmin, xid), xid, tuple(one for one in self.unseen if one < xid))


@dataclass(frozen=True)
class StreamPosition:
    """How far a client has come: a position, or an entry within what was read from there.

    A read is the events between two positions, in order of execution and version: whoever reads again from `seen` up to
    `read_to` finds the same ones (but those of executions that have been deleted), and goes on after `last`.
    """

    seen: LogPosition
    read_to: LogPosition | None = None
    last: tuple[UUID, int] | None = None

    def encode(self) -> str:
        """As an opaque word."""
        parts = [str(self.seen)]
        if self.read_to is not None and self.last is not None:
            parts += [str(self.read_to), self.last[0].hex, str(self.last[1])]
        return urlsafe_b64encode("|".join(parts).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, word: str) -> Self:
        """Back from the word.

        Raises:
            InvalidPositionError: it is none that `encode` has made.
        """
        try:
            if _TOKEN.fullmatch(word) is None:
                raise ValueError("not of our alphabet")
            seen, *rest = urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode("ascii").split("|")
            if not rest:
                return cls(LogPosition.parse(seen))
            read_to, execution_id, version = rest
            if not re.fullmatch(r"[0-9a-f]{32}", execution_id) or not re.fullmatch(r"\d{1,10}", version, re.ASCII):
                raise ValueError("not an entry")
            return cls(LogPosition.parse(seen), LogPosition.parse(read_to), (UUID(execution_id), _version(version)))
        except ValueError:
            raise InvalidPositionError(word, "an id that this stream has given") from None


def _version(text: str) -> int:
    if not 1 <= int(text) <= _MOST_VERSION:
        raise ValueError("not a version")
    return int(text)
