"""What Prometheus is told of model calls that go over Kafka; without a value where they stay in the process."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from events.commands import CommandBus
from events.kafka_commands import KafkaCommandBus
from execution.metric_families import counter


def model_call_metrics(command_bus: CommandBus) -> Iterator[Metric]:
    """The metrics as they are now."""
    bus = command_bus if isinstance(command_bus, KafkaCommandBus) else None
    yield counter("model_calls", "Model calls that this process has made over Kafka.", bus.requests if bus else None)
    yield counter("model_call_failures", "Those without an answer, or with an error.", bus.failures if bus else None)
    yield counter(
        "model_late_replies",
        "Replies that came when nobody waited any more, or for the second time.",
        bus.late if bus else None,
    )
    yield counter(
        "model_rebuilds",
        "Producers and consumers of model calls that were thrown away after a failure.",
        bus.rebuilds if bus else None,
    )
