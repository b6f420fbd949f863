"""How Kafka is reached, as one value that every client of it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from events.kafka_security import KafkaSecurity


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """Where the brokers are and how they are talked to."""

    bootstrap_servers: tuple[str, ...]
    """`host:port` of some brokers."""
    timeout: float = 10.0
    """Seconds that one thing may take: connecting, asking, publishing a batch."""
    client_id: str = "execution"
    security: KafkaSecurity = field(default_factory=KafkaSecurity)
    """Plain, unless said otherwise."""

    def options(self) -> dict[str, Any]:
        """The arguments that all of aiokafka's clients have in common; secrets are in them.

        Raises:
            UnusableTlsFileError, UnreadableSecretError: because of a file of `security`, which the text names.
        """
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "request_timeout_ms": int(self.timeout * 1000),
            **self.security.options(),
        }
