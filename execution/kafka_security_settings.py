"""The settings that say how Kafka is reached safely: encryption, and who this service says it is."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from execution.setting_types import Servers

_TLS = ("kafka_tls_ca_file", "kafka_tls_certificate_file", "kafka_tls_key_file", "kafka_tls_key_password")
_PASSWORD = ("kafka_username", "kafka_password", "kafka_password_file")
_CLIENT_SECRET = ("kafka_oauth_client_secret", "kafka_oauth_client_secret_file")
_OAUTH = (
    *("kafka_oauth_token_file", "kafka_oauth_token_url", "kafka_oauth_client_id"),
    *(*_CLIENT_SECRET, "kafka_oauth_scope", "kafka_oauth_ca_file"),
)

Text = Annotated[str, Field(min_length=1, max_length=1_000)]
SecretText = Annotated[SecretStr, Field(min_length=1, max_length=10_000)]


class KafkaSecuritySettings(BaseSettings):
    """A part of `Settings`."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    kafka_bootstrap_servers: Servers | None = None
    """Kafka brokers, `host:port` separated by commas. Unset: events and commands stay in this process."""

    kafka_allow_plaintext: bool = False
    """Talk to brokers on other machines without encryption. Default off: events say what clients do."""

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """What the brokers speak: `..SSL` is encrypted, `SASL_..` wants a login. Default `PLAINTEXT`, for brokers of this
    machine."""

    kafka_sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "PLAIN"] | None = None
    """How to log in where the protocol wants a login. Unset: there is none. `PLAIN` and `OAUTHBEARER` send the password
    or the token itself, so they need `SASL_SSL` to another machine."""

    kafka_username: Text | None = None
    """Name to log in with (SCRAM, PLAIN). Unset: another way, or none."""

    kafka_password: SecretText | None = None
    """Password of `kafka_username`. Unset: it is in `kafka_password_file`, or not needed."""

    kafka_password_file: Path | None = None
    """File with the password of `kafka_username`, read for each new connection. Unset: `kafka_password`."""

    kafka_oauth_token_file: Path | None = None
    """File with the token to log in with (OAUTHBEARER), which somebody else renews; read with each connection. Unset:
    `kafka_oauth_token_url` is asked."""

    kafka_oauth_token_url: Text | None = None
    """OAuth 2.0 token endpoint, `https://...`, that gives tokens for client credentials (OAUTHBEARER). Unset: the token
    is in `kafka_oauth_token_file`."""

    kafka_oauth_client_id: Text | None = None
    """Who this service is to the token endpoint. Unset: the endpoint is not asked."""

    kafka_oauth_client_secret: SecretText | None = None
    """Secret of `kafka_oauth_client_id`. Unset: it is in `kafka_oauth_client_secret_file`."""

    kafka_oauth_client_secret_file: Path | None = None
    """File with the secret of `kafka_oauth_client_id`, read for each token. Unset: `kafka_oauth_client_secret`."""

    kafka_oauth_scope: Text | None = None
    """What the token is to be good for, as the endpoint calls it. Unset: what the endpoint gives by itself."""

    kafka_oauth_ca_file: Path | None = None
    """Certificates (PEM) of who may vouch for the token endpoint. Unset: whom this system trusts."""

    kafka_tls_ca_file: Path | None = None
    """Certificates (PEM) of who may vouch for the brokers. Unset: whom this system trusts."""

    kafka_tls_certificate_file: Path | None = None
    """This service's own certificate with its chain (PEM), for brokers that want one (mTLS). Unset: none is shown."""

    kafka_tls_key_file: Path | None = None
    """Key of the certificate (PEM). Unset: it is in the same file."""

    kafka_tls_key_password: SecretText | None = None
    """Password of an encrypted key. Unset: it is not encrypted."""

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        problem = next(self._problems(), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def kafka_is_encrypted(self) -> bool:
        """Do the brokers speak TLS?"""
        return self.kafka_security_protocol.endswith("SSL")

    @property
    def _far(self) -> str | None:
        """The first broker that is not on this machine."""
        return next((one for one in self.kafka_bootstrap_servers or () if not _is_loopback(one)), None)

    def _problems(self) -> Iterator[str]:
        yield from self._problems_of_the_protocol()
        yield from self._problems_of_the_login()
        yield from self._problems_of_tls()

    def _problems_of_the_protocol(self) -> Iterator[str]:
        protocol, mechanism, far = self.kafka_security_protocol, self.kafka_sasl_mechanism, self._far
        if far and not self.kafka_is_encrypted and not self.kafka_allow_plaintext:
            encrypted = "SASL_SSL" if protocol == "SASL_PLAINTEXT" else "SSL or SASL_SSL"
            yield (
                f"EXECUTION_KAFKA_BOOTSTRAP_SERVERS names {far}, which is not this machine, and the connection would "
                f"not be encrypted: set EXECUTION_KAFKA_SECURITY_PROTOCOL to {encrypted}, or "
                "EXECUTION_KAFKA_ALLOW_PLAINTEXT=true accepts that"
            )
        if protocol.startswith("SASL_") and mechanism is None:
            yield f"EXECUTION_KAFKA_SECURITY_PROTOCOL={protocol} needs a login: set EXECUTION_KAFKA_SASL_MECHANISM"
        if mechanism and not protocol.startswith("SASL_"):
            yield (
                f"EXECUTION_KAFKA_SASL_MECHANISM={mechanism} has no effect with the protocol {protocol}: set "
                "EXECUTION_KAFKA_SECURITY_PROTOCOL to SASL_SSL, or leave the mechanism out"
            )
        if far and not self.kafka_is_encrypted and mechanism in ("PLAIN", "OAUTHBEARER"):
            yield (
                f"EXECUTION_KAFKA_SASL_MECHANISM={mechanism} would send the secret itself to {far} unencrypted: set "
                "EXECUTION_KAFKA_SECURITY_PROTOCOL=SASL_SSL"
            )

    def _problems_of_the_login(self) -> Iterator[str]:
        mechanism = self.kafka_sasl_mechanism
        if mechanism is None or mechanism == "OAUTHBEARER":
            yield from self._without_effect(_PASSWORD, "EXECUTION_KAFKA_SASL_MECHANISM=SCRAM-SHA-512, for instance")
        else:
            yield from self._needed("kafka_username", f"the mechanism {mechanism}")
            yield from self._exactly_one(_PASSWORD[1:], f"the mechanism {mechanism}")
        if mechanism == "OAUTHBEARER":
            yield from self._exactly_one(_OAUTH[:2], "the mechanism OAUTHBEARER")
        else:
            yield from self._without_effect(_OAUTH, "EXECUTION_KAFKA_SASL_MECHANISM=OAUTHBEARER")
        yield from self._problems_of_the_endpoint()

    def _problems_of_the_endpoint(self) -> Iterator[str]:
        url = self.kafka_oauth_token_url
        if url is None:
            yield from self._without_effect(_OAUTH[2:], "EXECUTION_KAFKA_OAUTH_TOKEN_URL")
            return
        yield from self._needed("kafka_oauth_client_id", "EXECUTION_KAFKA_OAUTH_TOKEN_URL")
        yield from self._exactly_one(_CLIENT_SECRET, "EXECUTION_KAFKA_OAUTH_TOKEN_URL")
        if not _is_safe_url(url):
            yield "EXECUTION_KAFKA_OAUTH_TOKEN_URL must look like https://host/path, without a password in it"

    def _problems_of_tls(self) -> Iterator[str]:
        if not self.kafka_is_encrypted:
            yield from self._without_effect(_TLS, "EXECUTION_KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL")
        elif self.kafka_tls_certificate_file is None:
            yield from self._without_effect(_TLS[2:], "EXECUTION_KAFKA_TLS_CERTIFICATE_FILE")

    def _needed(self, name: str, for_what: str) -> Iterator[str]:
        if getattr(self, name) is None:
            yield f"{_variable(name)} must be set for {for_what}"

    def _exactly_one(self, names: tuple[str, ...], for_what: str) -> Iterator[str]:
        if sum(getattr(self, name) is not None for name in names) != 1:
            yield f"exactly one of {' and '.join(map(_variable, names))} must be set for {for_what}"

    def _without_effect(self, names: tuple[str, ...], needs: str) -> Iterator[str]:
        for name in names:
            if getattr(self, name) is not None:
                yield f"{_variable(name)} has no effect without {needs}: set that, or leave it out"


def _variable(name: str) -> str:
    return f"EXECUTION_{name.upper()}"


def _is_safe_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        server = f"{parts.hostname}:{parts.port or 443}"
    except ValueError:
        return False
    is_encrypted = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(server))
    return is_encrypted and bool(parts.hostname) and "@" not in parts.netloc


def _is_loopback(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
