"""What durable plans observe of the service: sampled while plans are under way, so an idle process asks nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from execution.domain.execution import JsonObject
from execution.lifecycle import kept_running
from execution.steps.frozen import freeze_object
from execution.steps.health import ServiceHealthObserver

LOOK_AGAIN_SECONDS = 10.0
"""Until there is a new sample, or for so long, an observation is the same one: not every step has to keep it."""


class HealthOfPlans:
    """A `HealthObserver` that is kept up to date for as long as somebody watches."""

    def __init__(self, observer: ServiceHealthObserver) -> None:
        self._observer = observer
        self._seen: JsonObject | None = None
        self._sampled_at: float | None = None
        self._look_again_at = 0.0
        self._watching = 0
        self._sampling = AsyncExitStack()

    def observe_health(self) -> JsonObject:
        """The last sample and its age when it was first seen; status `unknown` before the first."""
        sampled_at, now = self._observer.sampled_at, time.monotonic()
        if self._seen is None or sampled_at != self._sampled_at or now >= self._look_again_at:
            self._seen = freeze_object(self._observer.observe_health(), "the observed health")
            self._sampled_at, self._look_again_at = sampled_at, now + LOOK_AGAIN_SECONDS
        return self._seen

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep sampling for the length of the block."""
        self._watching += 1
        try:
            if self._watching == 1:
                await self._sampling.enter_async_context(kept_running("steps health", self._observer.run))
            yield
        finally:
            self._watching -= 1
            if self._watching == 0:
                # Another one first: somebody may come while this one is closed.
                sampling, self._sampling = self._sampling, AsyncExitStack()
                await sampling.aclose()
