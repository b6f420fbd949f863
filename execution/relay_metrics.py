"""What Prometheus is told of the relay: of the cursor from any process, of the publishing from the one that does it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from execution.durable_relay import DurableRelay
from execution.metric_families import counter, gauge, gauge_by
from execution.relay_survey import RelaySurvey


class RelayMetrics:
    """The metrics of the relay, without a value where there is none."""

    def __init__(self) -> None:
        self.relay: DurableRelay | None = None
        """The relay of this process, once there is one."""
        self.survey: RelaySurvey | None = None
        """Of the cursor, once there is one."""

    async def refresh(self, within: float) -> None:
        """Look at the cursor."""
        if self.survey is not None:
            await self.survey.refresh(within)

    def read(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield from self._of_publishing()
        yield from self._of_cursor()

    def _of_publishing(self) -> Iterator[Metric]:
        relay = self.relay.state if self.relay else None
        yield gauge(
            "relay_lease_held",
            "1 while the relay of this process holds the lease and publishes.",
            float(relay.is_active) if relay else None,
        )
        yield counter(
            "relay_published",
            "Events that the brokers have acknowledged.",
            relay.published if relay else None,
        )
        yield counter(
            "relay_repeated",
            "Events that were sent again because sending had failed.",
            relay.repeated if relay else None,
        )
        yield counter(
            "relay_rebuilds",
            "Producers that were thrown away after a failure.",
            relay.failures if relay else None,
        )

    def _of_cursor(self) -> Iterator[Metric]:
        lag, barrier = (self.survey.lag, self.survey.barrier) if self.survey else (None, None)
        yield gauge(
            "relay_events_waiting",
            "Events that are not behind the cursor yet; counted to 100,000.",
            lag.events if lag else None,
        )
        yield gauge("relay_lag_seconds", "Age of the oldest such event.", lag.seconds if lag else None)
        held = [((barrier.holder, barrier.database, barrier.application), barrier.seconds)] if barrier else []
        yield gauge_by(
            ["backend", "database", "application"],
            "relay_barrier_held_seconds",
            "How long the oldest transaction that writes has been open; labels say whose it is.",
            held,
        )
