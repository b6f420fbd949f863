"""What Prometheus is told of the commands that a process carries out."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from execution.command_consumer import CommandConsumer


class CommandMetrics:
    """The metrics of commands over Kafka, without a value where there is none."""

    def __init__(self) -> None:
        self.consumer: CommandConsumer | None = None
        """The consumer of this process, once there is one."""

    def read(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield from self._of_consuming()
        yield from self._of_commands()

    def _of_consuming(self) -> Iterator[Metric]:
        state = self.consumer.state if self.consumer else None
        yield GaugeMetricFamily(
            "execution_commands_partitions_held",
            "Partitions that the consumer of this process reads.",
            state.assigned if state else None,
        )
        yield GaugeMetricFamily(
            "execution_commands_in_flight",
            "Commands over Kafka that are being carried out.",
            state.in_flight if state else None,
        )
        yield CounterMetricFamily(
            "execution_commands_rebuilds",
            "Consumers that were thrown away after a failure.",
            state.rebuilds if state else None,
        )
        yield CounterMetricFamily(
            "execution_commands_restarts",
            "Those of them that had partitions and commands waiting in them, and were given none.",
            state.restarts if state else None,
        )

    def _of_commands(self) -> Iterator[Metric]:
        tally = self.consumer.tally if self.consumer else None
        answered = CounterMetricFamily(
            "execution_commands_answered",
            "Commands that were replied to; labels say which, and the status.",
            labels=["command", "status"],
        )
        letters = CounterMetricFamily(
            "execution_commands_dead_letters", "Records that were put aside; a label says why.", labels=["reason"]
        )
        if tally is not None:
            for (command, status), count in tally.answered.items():
                answered.add_metric([command, str(status)], count)
            for reason, count in tally.dead_letters.items():
                letters.add_metric([reason], count)
        yield answered
        yield letters
        yield CounterMetricFamily(
            "execution_commands_replayed",
            "Replies that were those of an earlier sending.",
            tally.replayed if tally else None,
        )
        yield CounterMetricFamily(
            "execution_commands_tried_again",
            "Attempts at a command that trouble of the service has ended.",
            tally.tried_again if tally else None,
        )
        yield GaugeMetricFamily(
            "execution_commands_waiting",
            "Commands that wait for the end of trouble.",
            tally.waiting if tally else None,
        )
