"""An event as other services get it: read, checked, its data as a model."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import Struct
from pydantic import ValidationError

from events.codec import EventCodec, MalformedRecordError
from events.envelope import Envelope
from events.facts import FACTS, Fact


class ConsumedEvent(Struct, frozen=True, kw_only=True):
    """One event."""

    envelope: Envelope
    fact: Fact
    """Its data: the model of its type, so that `match` tells types apart; of a type that this release does not know,
    what every event says. Fields that are not known are in `envelope.data`."""
    partition: int
    offset: int

    @property
    def id(self) -> str:
        """`{execution id}:{version}`, the same for every sending."""
        return self.envelope.id

    @property
    def type(self) -> str:
        """Such as `agent.execution.completed`."""
        return self.envelope.type

    @property
    def tenant(self) -> str | None:
        """Whose execution it is."""
        return self.envelope.tenant

    @property
    def execution_id(self) -> UUID:
        """Of which execution."""
        return self.fact.execution_id

    @property
    def version(self) -> int:
        """What it made of the execution: 1, 2, 3."""
        return self.envelope.sequence


def read_event(record: Any, codec: EventCodec) -> ConsumedEvent:
    """The event of a record that came from the topic.

    Raises:
        MalformedRecordError: it is none of ours, or does not agree with itself.
    """
    envelope = codec.decode(record.value, record.headers)
    if record.key != envelope.subject.encode():
        raise MalformedRecordError("its key is not its execution's id")
    try:
        fact = FACTS.get(envelope.type, Fact).model_validate(envelope.data, extra="ignore")
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise MalformedRecordError(f"data of {envelope.type}: {fields} not as it has to be") from None
    if (str(fact.execution_id), fact.version) != (envelope.subject, envelope.sequence):
        raise MalformedRecordError(f"its data is about {fact.execution_id}:{fact.version}, and it is {envelope.id}")
    return ConsumedEvent(envelope=envelope, fact=fact, partition=record.partition, offset=record.offset)
