"""How Kafka is reached, as one value that every client of it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """Where the brokers are and how they are talked to."""

    bootstrap_servers: tuple[str, ...]
    """`host:port` of some brokers."""
    timeout: float = 10.0
    """Seconds that one thing may take: connecting, asking, publishing a batch."""
    client_id: str = "execution"
    security: dict[str, Any] = field(default_factory=dict, repr=False)
    """What aiokafka is told of TLS and SASL; secrets are in it."""

    def options(self) -> dict[str, Any]:
        """The arguments that all of aiokafka's clients have in common."""
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "request_timeout_ms": int(self.timeout * 1000),
            **self.security,
        }
