"""How Kafka clients make themselves safe: what they trust, and who they say they are.

Every value is complete by construction: the protocol follows from what is given. Files are read anew for each client,
so a renewed certificate or password counts from the next one on.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from events.kafka_tokens import TokenProvider
from events.secret import Secret

PasswordMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class UnusableTlsFileError(ValueError):
    """A file that TLS needs is missing, or not what it should be."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what} cannot be used: {problem}")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """An encrypted connection. The broker always has to prove that it has the name it was called by."""

    ca_file: Path | None = None
    """Who may vouch for the broker, in PEM; None: whom this system trusts."""
    certificate_file: Path | None = None
    """This client's own certificate with its chain, in PEM, for brokers that ask for one (mTLS)."""
    key_file: Path | None = None
    """Its key; None: it stands beside the certificate in the same file."""
    key_password: Secret | None = None

    def context(self) -> ssl.SSLContext:
        """What the standard library is given.

        Raises:
            UnusableTlsFileError, UnreadableSecretError: because of a file, which the text names.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise UnusableTlsFileError(f"the CA file {self.ca_file}", _told(error)) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None:
            self._present_certificate(context, self.certificate_file)
        return context

    def _present_certificate(self, context: ssl.SSLContext, certificate: Path) -> None:
        # Without a password OpenSSL would ask for one on the terminal.
        password = self.key_password.reveal() if self.key_password is not None else ""
        try:
            context.load_cert_chain(certificate, self.key_file, password)
        except (OSError, ValueError) as error:
            raise UnusableTlsFileError(f"the certificate {certificate} with its key", _told(error)) from error


class Login(Protocol):
    """Who a client says it is, to a broker that wants to know."""

    def options(self) -> dict[str, Any]:
        """What aiokafka is told of it; secrets are in it."""


@dataclass(frozen=True, kw_only=True)
class PasswordLogin:
    """A name and a password: SCRAM, which never sends the password, or PLAIN, which does."""

    mechanism: PasswordMechanism
    username: str
    password: Secret

    def options(self) -> dict[str, Any]:
        """See `Login`.

        Raises:
            UnreadableSecretError: the password's file cannot be read.
        """
        return {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password.reveal(),
        }


@dataclass(frozen=True, kw_only=True)
class TokenLogin:
    """A token of somebody the broker trusts (OAUTHBEARER), asked for with each connection."""

    tokens: TokenProvider

    def options(self) -> dict[str, Any]:
        """See `Login`."""
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": self.tokens}


@dataclass(frozen=True, kw_only=True)
class KafkaSecurity:
    """Whether the connection is encrypted, and who logs in; without either, it is plain."""

    tls: Tls | None = None
    login: Login | None = None

    @property
    def protocol(self) -> str:
        """As Kafka calls it."""
        return ("SASL_" if self.login is not None else "") + ("SSL" if self.tls is not None else "PLAINTEXT")

    def options(self) -> dict[str, Any]:
        """What aiokafka is told of it; secrets are in it.

        Raises:
            UnusableTlsFileError, UnreadableSecretError: because of a file, which the text names.
        """
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.tls is not None:
            options["ssl_context"] = self.tls.context()
        if self.login is not None:
            _withhold_logins()
            options |= self.login.options()
        return options


class _WithoutLogins(logging.Filter):
    """At its finest level aiokafka logs what it sends, a password or a token too."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any("SaslAuthenticate" in type(one).__name__ for one in arguments)


_WITHOUT_LOGINS = _WithoutLogins()


def _withhold_logins() -> None:
    logging.getLogger("aiokafka.conn").addFilter(_WITHOUT_LOGINS)  # once, however often it is asked for


def _told(error: Exception) -> str:
    """Without the numbers and the place in OpenSSL's source that its errors end with."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM, or the password is wrong").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
