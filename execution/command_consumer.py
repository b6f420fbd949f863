"""Commands over Kafka: from a record to its reply, or to the dead letters.

    record ─► who sends it ─► what it asks for ─► once, by the facade ─► reply
       │            │                │
       └────────────┴────────────────┴─► dead letter, and a reply where the sender is known

It is the HTTP door's twin: same models, same facade, same outcomes. The consumer itself (`events.ordered_consumer`)
commits an offset when the record's reply, or dead letter, is acknowledged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import structlog

from events.codec import Record
from events.command_envelope import CommandEnvelope, MalformedEnvelopeError, headers_of, reply_record
from events.consumer_session import Consuming
from events.dead_letters import LARGEST_VALUE, ROOM, dead_letter
from events.kafka_connection import KafkaConnection
from events.kafka_sender import KafkaSender, RecordTooLargeError
from events.kafka_topics import Topic
from events.ordered_consumer import OrderedConsumer
from execution.access_errors import InsufficientScopeError
from execution.command_answers import HOLD_SECONDS, CommandAnswers, CommandTally, problem_answer
from execution.command_errors import (
    MalformedCommandError,
    StaleCommandError,
    UnknownCommandError,
    UntrustedCommandError,
)
from execution.command_trust import CommandTrust
from execution.errors import ExecutionServiceError, SettingsError
from execution.incoming_command import IncomingCommand, path_of
from execution.kafka_access import kafka_connection
from execution.keyed_answer import Answer
from execution.keys import KeyRing
from execution.principal import Principal, Scope
from execution.problems import MEDIA_TYPE
from execution.request_errors import DocumentTooComplexError, MalformedRequestError, RequestTooLargeError
from execution.service import ExecutionService
from execution.settings import Settings

log = structlog.get_logger(__name__)

AHEAD = timedelta(minutes=5)
"""How far a sender's clock may be ahead of the database's."""
NO_TRUST = (
    "nobody can be known to send commands: set EXECUTION_KAFKA_COMMANDS_SECRET to accept signed ones, or "
    "EXECUTION_KAFKA_COMMANDS_TENANTS for topics of tenants' own; for brokers on this machine, "
    "EXECUTION_KAFKA_COMMANDS_ALLOW_UNSIGNED=true accepts any"
)
_NO_COMMANDS = (
    MalformedCommandError,
    UnknownCommandError,
    StaleCommandError,
    UntrustedCommandError,
    MalformedRequestError,
    RequestTooLargeError,
    DocumentTooComplexError,
)
"""What is wrong with records that are put aside. Whatever else is refused was a command, and has its reply."""


class CommandHandler:
    """Works off one record after the other, for the consumer."""

    def __init__(self, service: ExecutionService, trust: CommandTrust, sender: KafkaSender) -> None:
        self._service = service
        self._settings = service.settings
        self._trust = trust
        self._sender = sender
        self.tally = CommandTally()
        self._answers = CommandAnswers(self.tally)

    async def handle(self, record: Any) -> None:
        """Carry out the command, and reply; what is none goes to the dead letters.

        Raises:
            SendError: the brokers have not acknowledged that. The record has to come again.
        """
        delivery = _Delivery(record)
        try:
            answer, replayed = await self._answer(delivery)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not hold up all commands behind this one
            known = self._known(error, delivery)
            if isinstance(known, _NO_COMMANDS) or (known.status >= 500 and not known.retriable):
                await self._put_aside(delivery, known)
            answer, replayed = problem_answer(known, delivery.path), False
        if delivery.sender is not None:
            await self._reply(delivery, answer, replayed=replayed)

    async def _answer(self, delivery: _Delivery) -> tuple[Answer, bool]:
        record = delivery.record
        try:
            headers = headers_of(tuple(record.headers))
            delivery.envelope = envelope = CommandEnvelope.of(record.key, record.value, headers)
        except MalformedEnvelopeError as error:
            raise MalformedCommandError(str(error)) from error
        sender = await self._answers.patiently(lambda: self._trust.sender_of(record.topic, headers, envelope.data))
        delivery.sender = sender
        if not sender.may(Scope.WRITE):
            raise InsufficientScopeError(Scope.WRITE, sender.scopes)
        self._check_age(envelope)
        delivery.path = path_of(envelope)
        command = IncomingCommand.of(envelope, limit=self._settings.ordinary_request_limit_bytes)
        own = self._service.for_tenant(sender.tenant_id, sender.actor)
        return await self._answers.answer(own, sender.tenant_id, envelope.id, command)

    def _check_age(self, envelope: CommandEnvelope) -> None:
        """A command whose id may be forgotten by now could be carried out for the second time."""
        now = self._service.repository.db.clock.now()
        hours = self._settings.idempotency_key_hours
        if not now - timedelta(hours=hours) < envelope.time < now + AHEAD:
            raise StaleCommandError(hours)

    def _known(self, error: Exception, delivery: _Delivery) -> ExecutionServiceError:
        if isinstance(error, ExecutionServiceError):
            return error
        log.exception("commands.defect", **delivery.place, error=type(error).__name__)
        return ExecutionServiceError()

    async def _put_aside(self, delivery: _Delivery, error: ExecutionServiceError) -> None:
        log.warning("commands.dead_letter", code=error.code, **delivery.place)
        letter = dead_letter(
            delivery.record, group=self._settings.kafka_commands_group, code=error.code, message=str(error)
        )
        await self._sender.send(self._settings.kafka_dead_letters_topic, letter)
        self.tally.dead_letters[error.code] += 1

    async def _reply(self, delivery: _Delivery, answer: Answer, *, replayed: bool) -> None:
        topic = self._settings.kafka_replies_topic
        try:
            await self._sender.send(topic, self._reply_record(delivery, answer, replayed=replayed))
        except RecordTooLargeError as error:
            log.warning("commands.reply_too_large", **delivery.place, error=str(error))
            await self._sender.send(topic, self._reply_record(delivery, None, replayed=replayed, status=answer.status))
        assert delivery.envelope is not None
        self.tally.answered[delivery.envelope.name, answer.status] += 1
        self.tally.replayed += replayed

    def _reply_record(self, delivery: _Delivery, answer: Answer | None, *, replayed: bool, status: int = 0) -> Record:
        """`answer`: None where it is too large to be sent; then only its status is."""
        envelope, sender = delivery.envelope, delivery.sender
        assert envelope is not None
        assert sender is not None
        document: dict[str, Any] = {"command_id": envelope.id, "status": status, "replayed": replayed}
        if answer is not None:
            what = "problem" if answer.headers.get("content-type") == MEDIA_TYPE else "execution"
            document |= {"status": answer.status, what: orjson.Fragment(answer.body)}
        return reply_record(
            envelope,
            orjson.dumps(document),
            reply_id=delivery.id,
            source=self._settings.kafka_events_source,
            tenant=sender.tenant_id,
            time=self._service.repository.db.clock.now(),
        )


class CommandConsumer(OrderedConsumer):
    """The consumer of commands of one process."""

    def __init__(self, connection: KafkaConnection, settings: Settings, handler: CommandHandler) -> None:
        consuming = Consuming(
            topics=command_topics(settings),
            group=settings.kafka_commands_group,
            answers=answer_topics(settings),
            in_flight_limit=settings.kafka_commands_in_flight,
            silence_seconds=settings.kafka_commands_silence_seconds,
            session_seconds=HOLD_SECONDS,
        )
        super().__init__(connection, consuming, handler.handle)
        self.tally = handler.tally


@asynccontextmanager
async def open_command_consumer(service: ExecutionService, keys: KeyRing) -> AsyncIterator[CommandConsumer]:
    """What carries out the commands that come over the configured brokers; run it with its `run()`.

    It connects when it runs, and as often as it takes: brokers that are away keep nobody from starting.

    Raises:
        SettingsError: no brokers are configured, or no way to know who sends a command.
    """
    settings = service.settings
    connection = kafka_connection(settings)
    if not settings.commands_can_be_trusted:
        raise SettingsError([NO_TRUST])
    sender = KafkaSender(connection, answer_topics(settings))
    try:
        handler = CommandHandler(service, CommandTrust(keys, settings), sender)
        yield CommandConsumer(connection, settings, handler)
    finally:
        await sender.stop()


def command_topics(settings: Settings) -> list[Topic]:
    """Where commands come from, as those topics are meant to be."""
    names = [settings.kafka_commands_topic, *settings.kafka_commands_tenants]
    return [_topic(settings, name, settings.ordinary_request_limit_bytes + ROOM) for name in names]


def answer_topics(settings: Settings) -> list[Topic]:
    """Where replies and dead letters go."""
    # An execution's parameters, result, context and error, each as large as may be.
    replies = _topic(settings, settings.kafka_replies_topic, 4 * settings.inline_limit_bytes + ROOM)
    hours = settings.kafka_dead_letters_retention_hours
    letters = _topic(settings, settings.kafka_dead_letters_topic, LARGEST_VALUE + ROOM, hours=hours, partitions=1)
    return [replies, letters]


def _topic(
    settings: Settings, name: str, largest: int, *, hours: float | None = None, partitions: int | None = None
) -> Topic:
    return Topic(
        name=name,
        partitions=partitions or settings.kafka_commands_partitions,
        retention_seconds=(hours or settings.kafka_commands_retention_hours) * 3_600,
        replication=settings.kafka_replication_factor,
        largest_record=max(1_048_576, largest),
    )


class _Delivery:
    """One delivery of a record, and what is known of it so far."""

    def __init__(self, record: Any) -> None:
        self.record = record
        self.envelope: CommandEnvelope | None = None
        self.sender: Principal | None = None
        self.path: str | None = None

    @property
    def place(self) -> Mapping[str, Any]:
        """Where it is."""
        return {"topic": self.record.topic, "partition": self.record.partition, "offset": self.record.offset}

    @property
    def id(self) -> str:
        """The same for every delivery of this record: what a reply is known by."""
        return f"{self.record.topic}:{self.record.partition}:{self.record.offset}"
