"""The digest, lines and bytes of one file, read once in pieces."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What one reading of a file gave. A file with a NUL byte in its first piece is binary and has no lines."""

    sha256: str
    lines: int
    size: int


def take_fingerprint(file: BinaryIO, on_piece: Callable[[int], None]) -> Fingerprint:
    """Read the file; `on_piece` gets the bytes read after each piece, and what it raises ends the reading."""
    digest = hashlib.sha256()
    size = lines = 0
    binary = False
    last = b"\n"
    for piece in _pieces(file):
        binary = binary or (size == 0 and b"\0" in piece)
        digest.update(piece)
        size += len(piece)
        lines += piece.count(b"\n")
        last = piece[-1:]
        on_piece(size)
    unended = last != b"\n"
    return Fingerprint(sha256=digest.hexdigest(), lines=0 if binary else lines + unended, size=size)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    # No further than its size at the start: a file that somebody keeps writing to would never end.
    left = os.fstat(file.fileno()).st_size
    while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
        left -= len(piece)
        yield piece
