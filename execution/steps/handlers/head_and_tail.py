"""What a program says, kept in bounded memory: its beginning and its end."""

from __future__ import annotations


class HeadAndTail:
    """Takes bytes without end and keeps at most `limit` of them, half from the beginning and half from the end."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit - limit // 2
        self._tail_limit = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    @property
    def is_truncated(self) -> bool:
        """Was anything left out?"""
        return self._left_out > 0

    def take(self, chunk: bytes) -> None:
        """The next bytes."""
        room = self._head_limit - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        surplus = max(0, len(self._tail) - self._tail_limit)
        del self._tail[:surplus]
        self._left_out += surplus

    def text(self) -> str:
        """What was kept, as UTF-8; a note stands where something was left out."""
        if not self.is_truncated:
            return _text(bytes(self._head + self._tail))
        return f"{_text(self._head)}\n[{self._left_out:,} bytes left out]\n{_text(self._tail)}"


def _text(kept: bytes | bytearray) -> str:
    """JSON and PostgreSQL know no NUL and no broken UTF-8: each becomes the replacement character."""
    return kept.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
