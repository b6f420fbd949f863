"""The relay: follows the log and hands each entry to the emitter, in order within each execution."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from execution.errors import DatabaseError
from execution.event_emitter import ExecutionEventEmitter
from execution.repository.event_log import EventLog
from execution.repository.log_position import LogPosition
from execution.repository.wakeups import Topic, Wakeups
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


class LogRelay:
    """Publishes what becomes visible in the log after `attach`, as long as somebody listens.

    For the bus inside the process, whose subscribers do not outlive it: it keeps no cursor.
    """

    def __init__(
        self,
        event_log: EventLog,
        emitter: ExecutionEventEmitter,
        wakeups: Wakeups,
        *,
        is_heard: Callable[[], bool],
        poll_interval: float,
    ) -> None:
        self._log = event_log
        self._emitter = emitter
        self._wakeups = wakeups
        self._is_heard = is_heard
        self._poll_interval = poll_interval
        self._woken = asyncio.Event()
        self._attached = asyncio.Event()
        self._position: LogPosition | None = None

    async def attach(self) -> None:
        """Follow the log from here on: what commits after this returns will be published, and nothing older."""
        self._position = None
        self._position = await self._log.head()
        self._attached.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        unsubscribe = self._wakeups.subscribe(Topic.LOG, self._woken.set)
        try:
            while True:
                await self._attached.wait()
                await self._follow()
        finally:
            unsubscribe()

    async def _follow(self) -> None:
        """Publish from the position on until nobody listens any more."""
        while self._is_heard() and self._position is not None:
            after = self._position
            try:
                batch = await self._log.read(after)
            except DatabaseError as error:
                log.warning("relay.waiting_for_database", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self._position is not after:
                continue  # attached anew meanwhile: those who listen now did not ask for what was read
            for logged in batch.events:
                await self._emitter.emit(logged)
            if self._position is after:
                self._position = batch.position
            if batch.is_last and not batch.events:
                await self._wait()
        self._attached.clear()

    async def _wait(self) -> None:
        await is_set_within(self._woken, self._poll_interval)
        self._woken.clear()
