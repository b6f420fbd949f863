"""A file's bytes as pieces of text: any encoding, damaged bytes replaced and counted, memory bounded."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

PIECE_CHARACTERS = 32 * 1024
"""So much is analysed in about 10 ms, and in 50 ms at worst."""

_BYTE_ORDER_MARK = "\ufeff"

# Stands for one byte that could not be decoded. A lone surrogate, because no decoder makes one out of real text; the
# replacement character itself may be in the text.
_DAMAGED = "\udcff"
_MARK_DAMAGED = "execution.mark_damaged"


class TextPieces:
    """Iterate over it once: lines, and of lines longer than `PIECE_CHARACTERS` parts that end between two words."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        codecs.register_error(_MARK_DAMAGED, _mark_damaged)
        self._file = file
        self._text = io.TextIOWrapper(file, encoding=encoding, errors=_MARK_DAMAGED)
        self.damaged_bytes = 0

    @property
    def bytes_read(self) -> int:
        """How far into the file the pieces so far reach, in bytes, rounded up to what was read ahead."""
        return self._file.tell()

    def __iter__(self) -> Iterator[str]:
        for piece in self._raw_pieces():
            damaged = piece.count(_DAMAGED)
            self.damaged_bytes += damaged
            yield piece.replace(_DAMAGED, "\ufffd") if damaged else piece

    def _raw_pieces(self) -> Iterator[str]:
        rest = ""
        for part in self._parts_of_lines():
            whole = rest + part
            # A "word" longer than a piece is none; it is cut anywhere, so that memory stays bounded.
            if part.endswith("\n") or len(whole) >= 2 * PIECE_CHARACTERS:
                yield whole
                rest = ""
            else:
                head, blank, rest = whole.rpartition(" ")
                if blank:
                    yield head + blank
        if rest:
            yield rest

    def _parts_of_lines(self) -> Iterator[str]:
        first = self._text.readline(PIECE_CHARACTERS)
        if first:
            yield first.removeprefix(_BYTE_ORDER_MARK)
            yield from iter(partial(self._text.readline, PIECE_CHARACTERS), "")


def _mark_damaged(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _DAMAGED * (error.end - error.start), error.end
