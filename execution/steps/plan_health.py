"""What durable plans observe of the service: sampled while plans are under way, so an idle process asks nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from execution.domain.execution import JsonObject
from execution.lifecycle import kept_running
from execution.steps.health import ServiceHealthObserver


class HealthOfPlans:
    """A `HealthObserver` that is kept up to date for as long as somebody watches."""

    def __init__(self, observer: ServiceHealthObserver) -> None:
        self._observer = observer
        self._watching = 0
        self._sampling = AsyncExitStack()

    def observe_health(self) -> JsonObject:
        """The last sample and its age; status `unknown` before the first."""
        return self._observer.observe_health()

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
