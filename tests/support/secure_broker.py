"""A broker with every kind of lock there is: SASL over TLS with four mechanisms, and TLS that wants a certificate."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.kafka.broker import Broker
from tests.support.certificates import Authority

LOGIN, CERTIFICATE = "LOGIN", "CERTIFICATE"
_MODULES = "org.apache.kafka.common.security"
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class SecureBroker:
    """The broker and what its clients need to be let in."""

    broker: Broker
    authority: Authority
    user: str
    password: str

    @property
    def with_login(self) -> str:
        """Servers that speak SASL_SSL."""
        return self.broker.servers_of(LOGIN)

    @property
    def with_certificate(self) -> str:
        """Servers that speak SSL, to whoever shows a certificate of the authority."""
        return self.broker.servers_of(CERTIFICATE)


def secure_broker(folder: Path, *, user: str, password: str) -> SecureBroker:
    """One that is configured and not started yet; its plain door is for itself."""
    authority = Authority(folder / "certificates")
    login = f"listener.name.{LOGIN.lower()}"
    overrides = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.issue("broker")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        f"listener.name.{CERTIFICATE.lower()}.ssl.client.auth": "required",
        f"{login}.sasl.enabled.mechanisms": ",".join([*_SCRAM, "PLAIN", "OAUTHBEARER"]),
        f"{login}.plain.sasl.jaas.config": f'{_MODULES}.plain.PlainLoginModule required user_{user}="{password}";',
        # Kafka's own validator of unsigned tokens: it looks at who and until when.
        f"{login}.oauthbearer.sasl.jaas.config": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required;",
        f"{login}.oauthbearer.connections.max.reauth.ms": "3600000",
        **{f"{login}.{one.lower()}.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;" for one in _SCRAM},
    }
    users = [option for one in _SCRAM for option in ("--add-scram", f"{one}=[name={user},password={password}]")]
    listeners = {LOGIN: "SASL_SSL", CERTIFICATE: "SSL"}
    broker = Broker(folder, overrides=overrides, format_options=users, listeners=listeners)
    return SecureBroker(broker, authority, user, password)


def unsigned_token(subject: str, *, seconds: float = 3_600) -> str:
    """A token (JWS without a signature) that ends in so many seconds."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": subject, "iat": now - 60, "exp": now + seconds})
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts) + "."
