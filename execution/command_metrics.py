"""What Prometheus is told of the commands that a process carries out."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from execution.command_consumer import CommandConsumer
from execution.metric_families import counter, counter_by, gauge


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
        yield gauge(
            "commands_partitions_held",
            "Partitions that the consumer of this process reads.",
            state.assigned if state else None,
        )
        yield gauge(
            "commands_in_flight",
            "Commands over Kafka that are being carried out.",
            state.in_flight if state else None,
        )
        yield counter(
            "commands_rebuilds",
            "Consumers that were thrown away after a failure.",
            state.rebuilds if state else None,
        )
        yield counter(
            "commands_restarts",
            "Those of them that had partitions and commands waiting in them, and were given none.",
            state.restarts if state else None,
        )

    def _of_commands(self) -> Iterator[Metric]:
        tally = self.consumer.tally if self.consumer else None
        answered = tally.answered if tally else {}
        yield counter_by(
            ["command", "status"],
            "commands_answered",
            "Commands that were replied to; labels say which, and the status.",
            (((command, str(status)), count) for (command, status), count in answered.items()),
        )
        letters = tally.dead_letters if tally else {}
        yield counter_by(
            ["reason"],
            "commands_dead_letters",
            "Records that were put aside; a label says why.",
            (((reason,), count) for reason, count in letters.items()),
        )
        yield counter(
            "commands_replayed",
            "Replies that were those of an earlier sending.",
            tally.replayed if tally else None,
        )
        yield counter(
            "commands_tried_again",
            "Attempts at a command that trouble of the service has ended.",
            tally.tried_again if tally else None,
        )
        yield gauge(
            "commands_waiting",
            "Commands that wait for the end of trouble.",
            tally.waiting if tally else None,
        )
