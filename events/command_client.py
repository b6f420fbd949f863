"""`CommandClient`: for orchestrators that command executions over Kafka, and want to know what came of it.

    async with CommandClient(connection, source="/planner", signer=CommandSigner(key, secret)) as commands:
        reply = await commands.create({"kind": "text.analyze", "parameters": {"path": "letter.txt"}})
        reply = await commands.send("cancel", UUID(reply.execution["id"]), {"reason": "superseded"})

A command has an id. Whoever got no reply sends the same command again under the same id: it is carried out once, and
answered as it was the first time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID, uuid4

import orjson
from uuid_utils import compat

from events.command_envelope import COMMANDS, PREFIX, CommandEnvelope, CommandReply, MalformedEnvelopeError
from events.command_signature import CommandSigner
from events.commands import CommandBusError
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from events.request_reply import RequestReplyClient

COMMANDS_TOPIC, REPLIES_TOPIC = "execution.commands.v1", "execution.replies.v1"
_LARGEST = 4_194_304
"""Bytes that a command may have here; the brokers know better."""


class UnreadableReplyError(CommandBusError):
    """The reply is none that this release can read."""

    def __init__(self, command: str, problem: str) -> None:
        super().__init__(f"the reply to {command!r} cannot be read: {problem}")


class CommandClient:
    """Sends commands and waits for their replies, any number at the same time.

    Args:
        source: who sends, as a URI reference.
        signer: signs what is sent; None where the topic says who sends.
        commands: their topic, if it is not the ordinary one.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        source: str,
        signer: CommandSigner | None = None,
        commands: str = COMMANDS_TOPIC,
        replies: str = REPLIES_TOPIC,
    ) -> None:
        self._source = source
        self._signer = signer
        self._topic = _topic(commands)
        self._requests = RequestReplyClient(connection, requests=self._topic, replies=_topic(replies))

    async def create(
        self,
        submission: Mapping[str, Any],
        *,
        command_id: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - it travels with the command
    ) -> CommandReply:
        """Submit an execution: `kind`, `parameters` and what else the body over HTTP may have.

        It gets an id here, unless it has one: so a later command on it, which has the same key, stays behind it.
        Errors as `send`.
        """
        execution_id = UUID(str(submission.get("id") or compat.uuid7()))
        return await self.send(
            "create", execution_id, {**submission, "id": str(execution_id)}, command_id=command_id, timeout=timeout
        )

    async def send(
        self,
        command: str,
        execution_id: UUID,
        data: Mapping[str, Any] | None = None,
        *,
        command_id: str | None = None,
        expected_version: int | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - it travels with the command
    ) -> CommandReply:
        """Command an execution; a refusal is a reply, too.

        Args:
            data: what the body over HTTP may have, such as `reason`.
            command_id: the same for every sending of one command; None: one of its own, for a command sent once.

        Raises:
            NotSentError, NoReplyError: nobody knows what became of it. Send it again under the same id.
            UnreadableReplyError: it was carried out or refused; read the execution.
        """
        if command not in COMMANDS:
            raise ValueError(f"there is no command {command!r}; there are {', '.join(COMMANDS)}")
        envelope = CommandEnvelope(
            id=command_id or str(uuid4()),
            type=f"{PREFIX}{command}",
            source=self._source,
            time=datetime.now(UTC),
            subject=execution_id,
            data=b"" if data is None else orjson.dumps(data),
            expected_version=expected_version,
        )
        record = envelope.to_record()
        if self._signer is not None:
            record = self._signer.sign(self._topic.name, record)
        reply = await self._requests.request(record, command, timeout=timeout)
        try:
            return CommandReply.of(reply.value)
        except MalformedEnvelopeError as error:
            raise UnreadableReplyError(command, str(error)) from error

    async def stop(self) -> None:
        """Close everything; whoever still waits for a reply is told that there will be none."""
        await self._requests.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _topic(topic: str) -> Topic:
    """One of the service's, which creates it and knows how large its records may be."""
    return Topic(name=topic, partitions=1, retention_seconds=1, largest_record=_LARGEST, is_foreign=True)
