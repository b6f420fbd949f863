"""`CommandBus` over Kafka: one side asks, the other answers, and any number of processes may be either.

    KafkaCommandBus ─► commands topic ─► KafkaResponder ─► a bus inside its process
           ▲                                   │
           └────────── replies topic ◄─────────┘

A command is answered at least once: it comes to a second responder if the first one dies before its reply is with the
brokers, or if the brokers were slow to acknowledge it. The first reply counts. What nobody waits for any more is not
answered.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from events.bus_records import BusCommand, answer_record, command_record, read_command, read_reply, refusal_record
from events.codec import MalformedRecordError, Record
from events.commands import CommandBus, CommandBusError, Payload
from events.consumer_session import Consuming
from events.kafka_connection import KafkaConnection
from events.kafka_sender import KafkaSender, RecordTooLargeError, SendError
from events.kafka_topics import Topic
from events.ordered_consumer import OrderedConsumer
from events.request_reply import RequestReplyClient

log = structlog.get_logger(__name__)

LONGEST_ANSWER_SECONDS = 300.0
"""What a command that came without a deadline may take."""
SHORTEST_BACK_OFF, LONGEST_BACK_OFF = 0.05, 1.0


@dataclass(frozen=True, kw_only=True)
class CommandTopics:
    """Where commands are sent, and where their replies."""

    commands: Topic
    replies: Topic


class KafkaCommandBus:
    """Asks; it connects with the first command.

    Args:
        source: who asks, as a URI reference.
    """

    def __init__(self, connection: KafkaConnection, topics: CommandTopics, *, source: str) -> None:
        self._client = RequestReplyClient(connection, requests=topics.commands, replies=topics.replies)
        self._source = source
        self.requests = 0
        """Commands that were sent, or should have been."""
        self.failures = 0
        """Those of them without an answer, or with an error as the answer."""

    @property
    def late(self) -> int:
        """Replies that came when nobody waited any more, or for the second time."""
        return self._client.late

    @property
    def rebuilds(self) -> int:
        """Producers and consumers that were thrown away after a failure."""
        return self._client.rebuilds

    async def request(self, command_type: str, payload: Payload, *, timeout: float) -> Payload:  # noqa: ASYNC109
        """The reply to a command; see `CommandBus`."""
        record = command_record(command_type, payload, source=self._source)
        self.requests += 1
        try:
            return read_reply(await self._client.request(record, command_type, timeout=timeout))
        except CommandBusError:
            self.failures += 1
            raise

    async def stop(self) -> None:
        """Close everything; whoever still waits is told so."""
        await self._client.stop()


@dataclass
class ResponderTally:
    """What became of the commands."""

    answered: int = 0
    refused: int = 0
    """Answered with an error."""
    expired: int = 0
    """Not answered, or not in time."""
    malformed: int = 0
    """No commands at all."""


class KafkaResponder:
    """Answers commands with what a bus inside this process answers; offsets are committed after the reply.

    Args:
        group: the responders of one group share the commands.
        source: who answers, as a URI reference.
        at_once: the most commands that are being answered at the same time.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: CommandTopics,
        bus: CommandBus,
        *,
        group: str,
        source: str,
        at_once: int = 100,
    ) -> None:
        self._bus = bus
        self._source = source
        self._replies = topics.replies
        self._sender = KafkaSender(connection, [topics.replies])
        consuming = Consuming(topics=[topics.commands], answers=[topics.replies], group=group, in_flight_limit=at_once)
        self.consumer = OrderedConsumer(connection, consuming, self._handle)
        self.tally = ResponderTally()

    @property
    def ready(self) -> asyncio.Event:
        """It answers, or `consumer.state` says why it cannot yet."""
        return self.consumer.ready

    def stop(self) -> None:
        """Let `run` end, after what is being answered."""
        self.consumer.stop()

    async def run(self) -> None:
        """Answer until stopped or cancelled."""
        try:
            await self.consumer.run()
        finally:
            await self._sender.stop()

    async def _handle(self, record: Any) -> None:
        try:
            command = read_command(record.value, dict(record.headers))
        except MalformedRecordError as error:  # nobody can be told: a reply needs the correlation
            self.tally.malformed += 1
            log.warning("responder.malformed", partition=record.partition, offset=record.offset, error=str(error))
            return
        left = LONGEST_ANSWER_SECONDS if command.seconds_left is None else command.seconds_left
        try:
            async with asyncio.timeout(max(0.0, left)):
                await self._answer(command, left)
        except TimeoutError:
            self.tally.expired += 1
            log.info("responder.expired", command=command.type, id=command.id)

    async def _answer(self, command: BusCommand, left: float) -> None:
        if left <= 0:
            raise TimeoutError
        try:
            payload = await self._bus.request(command.type, command.payload, timeout=left)
            await self._send(answer_record(command, payload, source=self._source))
        except (CommandBusError, RecordTooLargeError, orjson.JSONEncodeError) as error:
            await self._send(refusal_record(command, str(error), source=self._source))
            self.tally.refused += 1
        else:
            self.tally.answered += 1

    async def _send(self, reply: Record) -> None:
        """Until the brokers have it, or nobody waits for it any more."""
        back_off = SHORTEST_BACK_OFF
        while True:
            try:
                return await self._sender.send(self._replies.name, reply)
            except RecordTooLargeError:
                raise
            except SendError as error:
                log.warning("responder.reply_not_sent", error=str(error))
            await asyncio.sleep(random.uniform(back_off / 2, back_off))
            back_off = min(2 * back_off, LONGEST_BACK_OFF)
