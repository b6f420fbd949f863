"""From settings to how Kafka is reached: the one value that every client of this process is made from, and topics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from events.kafka_connection import KafkaConnection
from events.kafka_security import KafkaSecurity, Login, PasswordLogin, Tls, TokenLogin, UnusableTlsFileError
from events.kafka_tokens import ClientCredentials, TokenFile, TokenProvider
from events.kafka_topics import Topic
from events.secret import Secret, UnreadableSecretError
from execution.errors import SettingsError
from execution.settings import Settings

_SECRET_FILES = ("kafka_password_file", "kafka_oauth_client_secret_file", "kafka_oauth_token_file")


def kafka_connection(settings: Settings) -> KafkaConnection:
    """How the configured brokers are reached.

    Raises:
        SettingsError: none are configured, or a file that is named cannot be used.
    """
    if settings.kafka_bootstrap_servers is None:
        raise SettingsError(["EXECUTION_KAFKA_BOOTSTRAP_SERVERS: must be set, there is no broker to talk to"])
    security = KafkaSecurity(tls=_tls(settings) if settings.kafka_is_encrypted else None, login=_login(settings))
    _check_files(settings, security)
    return KafkaConnection(
        bootstrap_servers=settings.kafka_bootstrap_servers, timeout=settings.kafka_timeout_seconds, security=security
    )


def events_topic(settings: Settings) -> Topic:
    """The topic of the events, as it is meant to be."""
    return Topic(
        name=settings.kafka_events_topic,
        partitions=settings.kafka_events_partitions,
        retention_seconds=settings.kafka_events_retention_hours * 3_600,
        replication=settings.kafka_replication_factor,
        largest_record=settings.largest_record_bytes,
    )


def _check_files(settings: Settings, security: KafkaSecurity) -> None:
    """They are read again for each client; what is wrong with them now is told now."""
    checks: dict[str, Callable[[], object]] = {
        f"EXECUTION_{name.upper()}": Secret.in_file(file).reveal
        for name in _SECRET_FILES
        if (file := getattr(settings, name)) is not None
    }
    if security.tls is not None:
        checks["EXECUTION_KAFKA_TLS_*"] = security.tls.context
    if settings.kafka_oauth_ca_file is not None:
        checks["EXECUTION_KAFKA_OAUTH_CA_FILE"] = Tls(ca_file=settings.kafka_oauth_ca_file).context
    problems = []
    for variable, check in checks.items():
        try:
            check()
        except (UnusableTlsFileError, UnreadableSecretError) as error:
            problems.append(f"{variable}: {error}")
    if problems:
        raise SettingsError(problems)


def _tls(settings: Settings) -> Tls:
    password = settings.kafka_tls_key_password
    return Tls(
        ca_file=settings.kafka_tls_ca_file,
        certificate_file=settings.kafka_tls_certificate_file,
        key_file=settings.kafka_tls_key_file,
        key_password=_secret(password, None) if password is not None else None,
    )


def _login(settings: Settings) -> Login | None:
    mechanism = settings.kafka_sasl_mechanism
    if mechanism is None:
        return None
    if mechanism == "OAUTHBEARER":
        return TokenLogin(tokens=_tokens(settings))
    assert settings.kafka_username is not None  # the settings have been checked
    password = _secret(settings.kafka_password, settings.kafka_password_file)
    return PasswordLogin(mechanism=mechanism, username=settings.kafka_username, password=password)


def _tokens(settings: Settings) -> TokenProvider:
    if settings.kafka_oauth_token_file is not None:
        return TokenFile(settings.kafka_oauth_token_file)
    assert settings.kafka_oauth_token_url is not None
    assert settings.kafka_oauth_client_id is not None
    return ClientCredentials(
        settings.kafka_oauth_token_url,
        client_id=settings.kafka_oauth_client_id,
        client_secret=_secret(settings.kafka_oauth_client_secret, settings.kafka_oauth_client_secret_file),
        scope=settings.kafka_oauth_scope,
        ca_file=settings.kafka_oauth_ca_file,
        timeout=settings.kafka_timeout_seconds,
    )


def _secret(text: SecretStr | None, file: Path | None) -> Secret:
    if text is not None:
        return Secret(text.get_secret_value())
    assert file is not None
    return Secret.in_file(file)
