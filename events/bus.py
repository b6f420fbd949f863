"""Where events go: the `EventBus` protocol, and the bus inside the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from events.envelope import Outgoing


class EventBusError(Exception):
    """The bus did not take everything it was given. Some of it may have been delivered: give it all once more."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the event bus did not take what was published: {problem}")


class EventBus(Protocol):
    """Takes events in the order they are published and delivers them at least once, in order per execution."""

    async def publish_event(self, event_type: str, payload: dict[str, Any]) -> None:
        """Publish one event; returns when the bus has taken responsibility for it."""

    async def publish(self, envelopes: Sequence[Outgoing]) -> None:
        """Publish many; returns when the bus has taken responsibility for all of them.

        Raises:
            EventBusError: not for all. Whoever goes on has to publish them again, and nothing that follows before.
        """


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event as a subscriber gets it."""

    type: str
    payload: dict[str, Any]


class Subscription:
    """One subscriber's events, as an asynchronous iterator."""

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[BusEvent] = asyncio.Queue(size)
        self._is_closed = False

    async def put(self, event: BusEvent) -> None:
        """Hand over an event; waits while the subscriber is `size` events behind. After the end it goes nowhere."""
        if not self._is_closed:
            await self._queue.put(event)

    def close(self) -> None:
        """Take nothing more, and let go whoever waits to hand something over."""
        self._is_closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def get(self) -> BusEvent:
        """The next event."""
        return await self._queue.get()

    async def __aiter__(self) -> AsyncIterator[BusEvent]:
        while True:
            yield await self.get()


class InProcessEventBus:
    """The bus used when no broker is configured. A subscriber that lags holds the relay back, never an execution."""

    def __init__(self, subscriber_size: int = 10_000) -> None:
        self._size = subscriber_size
        self._subscriptions: list[Subscription] = []
        self._before_first: Callable[[], Awaitable[None]] | None = None
        self._joining = asyncio.Lock()

    @property
    def has_subscribers(self) -> bool:
        """Does anybody listen?"""
        return bool(self._subscriptions)

    def feed_from(self, attach: Callable[[], Awaitable[None]]) -> None:
        """Name what feeds this bus: `attach` is awaited before a subscription begins while nobody else listens."""
        self._before_first = attach

    async def publish_event(self, event_type: str, payload: dict[str, Any]) -> None:
        """Hand the event to every subscriber."""
        for subscription in tuple(self._subscriptions):
            await subscription.put(BusEvent(event_type, payload))

    async def publish(self, envelopes: Sequence[Outgoing]) -> None:
        """Hand each of them to every subscriber."""
        for envelope in envelopes:
            await self.publish_event(envelope.type, envelope.data)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """Every event of what is committed after the block was entered, until it ends."""
        subscription = Subscription(self._size)
        try:
            async with self._joining:  # whoever joins while the feed is being attached waits until it is
                feed_anew = not self._subscriptions
                self._subscriptions.append(subscription)
                if feed_anew and self._before_first is not None:
                    await self._before_first()
            yield subscription
        finally:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
            subscription.close()
