"""The settings that concern commands over Kafka."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from execution.kafka_settings import KafkaSettings
from execution.setting_types import CommandSecret, TenantTopics, TopicName


class CommandSettings(KafkaSettings):
    """A part of `Settings`."""

    kafka_commands_topic: TopicName = "execution.commands.v1"
    """Topic that commands are read from. Default `execution.commands.v1`; created if it is not there."""

    kafka_replies_topic: TopicName = "execution.replies.v1"
    """Topic that commands are answered on. Default `execution.replies.v1`; created if it is not there."""

    kafka_dead_letters_topic: TopicName = "execution.commands.dlq.v1"
    """Topic for records that are no commands. Default `execution.commands.dlq.v1`; created if it is not there."""

    kafka_commands_group: Annotated[str, Field(min_length=1, max_length=200)] = "execution-commands"
    """Consumer group of the processes that carry out commands. Default `execution-commands`: all of one service share
    the work."""

    kafka_commands_partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Partitions the topics of commands and replies are created with. Default 12: so many processes share the work."""

    kafka_commands_retention_hours: Annotated[float, Field(gt=0, le=876_000, allow_inf_nan=False)] = 168.0
    """Time for which commands and replies are kept. Default a week: what the service may be away."""

    kafka_dead_letters_retention_hours: Annotated[float, Field(gt=0, le=876_000, allow_inf_nan=False)] = 720.0
    """Time for which dead letters are kept. Default 30 days: until somebody has looked at them."""

    kafka_commands_secret: CommandSecret | None = None
    """Secret that the senders' own ones are derived from (`execution keys signing-secret`), at least 32 characters.
    Unset: no signature is accepted."""

    kafka_commands_tenants: TenantTopics = Field(default_factory=dict)
    """Further topics of commands, `topic=tenant` separated by commas: what comes on one is that tenant's, unsigned.
    Default none. Let only the tenant write to its topic: the brokers' access list is what tells who sends."""

    kafka_commands_allow_unsigned: bool = False
    """Carry out unsigned commands, as the tenant of the settings, if the brokers are on this machine. Default off:
    whoever reaches a broker could command."""

    kafka_commands_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Commands that one process carries out at once. Default 200: they share their commits; those of one execution
    follow each other."""

    kafka_commands_silence_seconds: Annotated[float, Field(ge=1, le=3_600, allow_inf_nan=False)] = 30.0
    """Silence of a consumer that has commands waiting, after which it is thrown away and made anew. Default 30 s."""

    @property
    def commands_can_be_trusted(self) -> bool:
        """Is there any way for a command to be known as somebody's? Without one none is read."""
        return bool(self.kafka_commands_secret or self.kafka_commands_tenants or self.kafka_commands_allow_unsigned)

    @model_validator(mode="after")
    def _check_unsigned(self) -> Self:
        if self._far and self.kafka_commands_allow_unsigned:
            raise ValueError(
                f"EXECUTION_KAFKA_COMMANDS_ALLOW_UNSIGNED is for brokers on this machine, and {self._far} is not one; "
                "set EXECUTION_KAFKA_COMMANDS_SECRET, and let senders sign"
            )
        return self

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        own = [self.kafka_commands_topic, self.kafka_replies_topic, self.kafka_dead_letters_topic]
        topics = [*own, self.kafka_events_topic, *self.kafka_commands_tenants]
        if len(topics) != len(set(topics)):
            raise ValueError("EXECUTION_KAFKA_*_TOPIC and EXECUTION_KAFKA_COMMANDS_TENANTS name one topic twice")
        return self
