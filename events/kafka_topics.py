"""Topics: created as they are meant, or checked if they are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from events.kafka_admin import administrator
from events.kafka_connection import KafkaConnection

log = structlog.get_logger(__name__)

_CHECKED = ("cleanup.policy", "retention.ms", "max.message.bytes")


class UnfitTopicError(Exception):
    """A topic is there, but would lose events."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"topic {name!r} cannot be used: {problem}")


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic as it is meant to be."""

    name: str
    partitions: int
    retention_seconds: float
    replication: int | None = None
    """Copies of each partition; None: as many as the brokers' default says."""
    largest_record: int = 1_048_576
    """Bytes of the largest record, headers and all."""
    is_foreign: bool = False
    """Another service's, which knows how it has to be: it must be there, and is neither created nor checked."""

    def to_create(self) -> NewTopic:
        """As Kafka is asked for it. Compaction is off: it would keep the last event of each execution and no other."""
        return NewTopic(
            self.name,
            self.partitions,
            self.replication or -1,
            replica_assignments={},
            topic_configs={
                "cleanup.policy": "delete",
                "retention.ms": str(int(self.retention_seconds * 1000)),
                "max.message.bytes": str(self.largest_record),
            },
        )


async def ensure_topic(connection: KafkaConnection, topic: Topic) -> None:
    """Create the topic, or check the one that is there. What is only otherwise than configured is logged.

    Raises:
        UnfitTopicError: it is compacted, does not take our largest records, or is another service's and not there.
        KafkaError, OSError, TimeoutError: no answer, or a refusal.
    """
    async with administrator(connection) as admin:
        if topic.is_foreign:
            await _find(admin, topic)
        elif not await _create(admin, topic):
            await _check(admin, topic)


async def _create(admin: AIOKafkaAdminClient, topic: Topic) -> bool:
    """Create it; False if it is there already."""
    answer = await admin.create_topics([topic.to_create()])
    (_, code, *message) = answer.topic_errors[0]
    error = for_code(code)
    if error is TopicAlreadyExistsError:
        return False
    if error is not NoError:
        raise error(*message)
    log.info("kafka.topic_created", topic=topic.name, partitions=topic.partitions)
    return True


async def _find(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    (description,) = await admin.describe_topics([topic.name])
    if for_code(description["error_code"]) is not NoError:
        raise UnfitTopicError(topic.name, "it is not there; the service that it belongs to creates it")


async def _check(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    found = await _configuration(admin, topic.name)
    policy, largest = found["cleanup.policy"], int(found["max.message.bytes"])
    if "compact" in policy:
        raise UnfitTopicError(topic.name, f"cleanup.policy is {policy!r}, which drops events; set it to 'delete'")
    if largest < topic.largest_record:
        raise UnfitTopicError(topic.name, f"max.message.bytes is {largest}; at least {topic.largest_record} is needed")
    (description,) = await admin.describe_topics([topic.name])
    partitions, retention = len(description["partitions"]), int(found["retention.ms"])
    if partitions != topic.partitions or retention != int(topic.retention_seconds * 1000):
        log.warning("kafka.topic_differs", topic=topic.name, partitions=partitions, retention_ms=retention)


async def _configuration(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    wanted = ConfigResource(ConfigResourceType.TOPIC, name, configs=dict.fromkeys(_CHECKED))
    (answer,) = await admin.describe_configs([wanted])
    (code, message, _, _, entries) = answer.resources[0]
    error = for_code(code)
    if error is not NoError:
        raise error(message)
    values: dict[str, Any] = {entry[0]: entry[1] for entry in entries}
    if missing := [one for one in _CHECKED if values.get(one) is None]:
        raise KafkaError(f"the brokers do not tell {', '.join(missing)} of topic {name!r}")
    return values
