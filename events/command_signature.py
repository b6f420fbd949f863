"""Who sends a command: an HMAC over its head and its data, under a secret that only its sender and the service know.

    signature = hex(HMAC-SHA256(secret, parts)), with parts, each behind its length in 8 bytes, most significant first:
        "execution-command-v1", the topic, the key's name,
        for each header of `SIGNED`: nothing where the command does not have it, otherwise "=" and its value,
        the data

Each sender has a secret of its own, derived from one of the service's (`signing_secret`), so that none can sign as
another, and what the service keeps of API keys is no use to whoever reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from hmac import new as new_hmac

from events.codec import Record

KEY, SIGNATURE = "signature-key", "signature"
SIGNED = (
    *("ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time"),
    *("ce_subject", "ce_tenant", "ce_expectedversion", "traceparent", "content-type"),
)
"""The headers that a signature is about. Those of the reply, and those of a deadline, it is not."""

_PURPOSE = b"execution-command-v1"


@dataclass(frozen=True)
class CommandSigner:
    """Signs what one sender sends."""

    key: str
    """What the sender's key is called: the prefix of its API key."""
    secret: str = field(repr=False)
    """What `execution keys signing-secret` says."""

    def sign(self, topic: str, record: Record) -> Record:
        """The record for that topic, with its signature."""
        signature = signature_of(self.secret, self.key, topic, dict(record.headers), record.value)
        return Record(
            record.key, record.value, [*record.headers, (KEY, self.key.encode()), (SIGNATURE, signature.encode())]
        )


def signing_secret(master: str, key: str) -> str:
    """The secret of one sender, from the one of the service."""
    return new_hmac(master.encode(), b"execution-commands " + key.encode(), sha256).hexdigest()


def signature_of(secret: str, key: str, topic: str, headers: Mapping[str, bytes], data: bytes) -> str:
    """What a command's signature has to be."""
    head = [b"" if name not in headers else b"=" + headers[name] for name in SIGNED]
    digest = new_hmac(secret.encode(), digestmod=sha256)
    for part in (_PURPOSE, topic.encode(), key.encode(), *head, data):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def is_signed(secret: str, key: str, topic: str, headers: Mapping[str, bytes], data: bytes) -> bool:
    """Does it bear the signature of whoever has this secret?"""
    return compare_digest(headers.get(SIGNATURE, b""), signature_of(secret, key, topic, headers, data).encode())
