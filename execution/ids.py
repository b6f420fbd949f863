"""Identifiers: UUIDv7, made before the write by the side that writes."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import uuid_utils
from asyncpg.pgproto import pgproto


def new_id() -> UUID:
    """A new time-ordered id. Rows that are made together lie together in every index.

    Of the class in which the database driver gives ids, too: they are hashed and compared in C, dozens of times for
    every execution.
    """
    return pgproto.UUID(uuid_utils.uuid7().bytes)


def parsed_id(text: str) -> UUID:
    """The id that is written there, of the driver's class; ValueError: it is none."""
    return pgproto.UUID(text)


def derived_id(command_id: UUID, index: int) -> UUID:
    """The id of the item at `index` (0 to 4,095) of what a command makes: the same one each time it is sent.

    Also a UUIDv7, of the command's time; the index stands behind the time, so that the items keep their order.
    """
    if not 0 <= index < _DERIVED_IDS:
        raise ValueError(f"a command derives ids for 0 to {_DERIVED_IDS - 1}, not {index}")
    milliseconds = command_id.int >> 80
    chance = int.from_bytes(sha256(command_id.bytes + index.to_bytes(2, "big")).digest()[:8], "big") >> 2
    return UUID(int=milliseconds << 80 | 0x7 << 76 | index << 64 | 0b10 << 62 | chance)


_DERIVED_IDS = 1 << 12
"""As many as the twelve bits between version and variant tell apart."""
