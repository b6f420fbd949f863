"""Identifiers: UUIDv7, made before the write by the side that writes."""

from __future__ import annotations

from uuid import UUID

from uuid_utils import compat


def new_id() -> UUID:
    """A new time-ordered id. Rows that are made together lie together in every index."""
    return compat.uuid7()
