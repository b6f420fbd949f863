"""A bounded buffer between one that produces for many and one consumer who may be slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from execution.waiting import is_set_within

T = TypeVar("T")


class Buffer(Generic[T]):
    """Items on their way to one consumer. A full one takes nothing more: what does not fit must be read again later.

    It takes one item whatever its size, because an item that never fits would never arrive.
    """

    def __init__(self, size_of: Callable[[T], int], *, max_items: int, max_bytes: int) -> None:
        self._size_of = size_of
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[T] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._closed_with: Exception | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Take an item; False if there is no room."""
        size = self._size_of(item)
        if self._items and (len(self._items) >= self._max_items or self._bytes + size > self._max_bytes):
            return False
        self._items.append(item)
        self._bytes += size
        self._filled.set()
        return True

    def put_all(self, items: Sequence[T], size: int) -> bool:
        """Take items of so many bytes together, as many as there is room for; False if that is not all of them."""
        if len(self._items) + len(items) > self._max_items or self._bytes + size > self._max_bytes:
            return all(self.put(item) for item in items)
        self._items.extend(items)
        self._bytes += size
        self._filled.set()
        return True

    def close(self, error: Exception) -> None:
        """Nothing more will come: the consumer gets what is left, and then the error."""
        self._closed_with = error
        self._filled.set()

    async def wait(self, within: float | None = None) -> bool:
        """Until there are items, or an end; False when the time is over first."""
        return bool(self._items) or await is_set_within(self._filled, within)

    def take(self) -> list[T]:
        """Everything there is, maybe nothing.

        Raises:
            Exception: the one that it was closed with, once it is empty.
        """
        self._filled.clear()
        if not self._items and self._closed_with is not None:
            self._filled.set()
            raise self._closed_with
        items, self._items, self._bytes = list(self._items), deque(), 0
        return items
