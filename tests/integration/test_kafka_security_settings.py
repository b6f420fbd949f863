"""Settings of Kafka's security: what belongs together, what is refused, and that nothing gives a secret away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from events.kafka_connection import KafkaConnection
from execution.errors import SettingsError
from execution.kafka_access import kafka_connection
from execution.settings import Settings

FAR = "broker.example:9093"
SECRET = "the-secret-itself"
SCRAM: dict[str, Any] = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_username": "ada",
    "kafka_password": SECRET,
}
ENDPOINT: dict[str, Any] = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
    "kafka_oauth_token_url": "https://tokens.example/token",
    "kafka_oauth_client_id": "execution",
    "kafka_oauth_client_secret": SECRET,
}
IN_CLEAR = {"kafka_security_protocol": "SASL_PLAINTEXT"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EXECUTION_")]:
        monkeypatch.delenv(name)


def problems_of(**given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        kafka_connection(Settings.load(**{"kafka_bootstrap_servers": FAR} | given))
    assert SECRET not in repr(caught.value)
    return "; ".join(caught.value.problems)


def options_of(**given: Any) -> dict[str, Any]:
    return kafka_connection(Settings.load(**{"kafka_bootstrap_servers": FAR} | given)).options()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
def test_a_name_and_a_password_over_an_encrypted_connection(mechanism: str) -> None:
    options = options_of(**SCRAM | {"kafka_sasl_mechanism": mechanism})
    assert options.pop("ssl_context").check_hostname
    assert options == {
        "bootstrap_servers": [FAR],
        "client_id": "execution",
        "request_timeout_ms": 10_000,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "ada",
        "sasl_plain_password": SECRET,
    }


def test_a_password_in_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    given = SCRAM | {"kafka_bootstrap_servers": FAR, "kafka_password": None, "kafka_password_file": file}
    connection = kafka_connection(Settings.load(**given))
    assert connection.options()["sasl_plain_password"] == "first"
    file.write_text(" second")
    assert connection.options()["sasl_plain_password"] == " second"


def test_without_a_login_it_is_encrypted_or_on_this_machine() -> None:
    assert options_of(kafka_security_protocol="SSL")["security_protocol"] == "SSL"
    assert options_of(kafka_bootstrap_servers="127.0.0.1:9092")["security_protocol"] == "PLAINTEXT"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "would not be encrypted: set EXECUTION_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL"),
        (SCRAM | IN_CLEAR, "would not be encrypted: set EXECUTION_KAFKA_SECURITY_PROTOCOL to SASL_SSL"),
        (
            SCRAM | IN_CLEAR | {"kafka_sasl_mechanism": "PLAIN", "kafka_allow_plaintext": True},
            "would send the secret itself to broker.example:9093",
        ),
        ({"kafka_security_protocol": "SASL_SSL"}, "needs a login: set EXECUTION_KAFKA_SASL_MECHANISM"),
        (SCRAM | {"kafka_security_protocol": "SSL"}, "has no effect with the protocol SSL"),
        (SCRAM | {"kafka_username": None}, "EXECUTION_KAFKA_USERNAME must be set for the mechanism SCRAM-SHA-512"),
        (SCRAM | {"kafka_password": None}, "exactly one of EXECUTION_KAFKA_PASSWORD and EXECUTION_KAFKA_PASSWORD_FILE"),
        (SCRAM | {"kafka_password_file": "/x"}, "exactly one of EXECUTION_KAFKA_PASSWORD and"),
        (SCRAM | {"kafka_oauth_scope": "x"}, "EXECUTION_KAFKA_OAUTH_SCOPE has no effect without"),
        ({"kafka_security_protocol": "SSL", "kafka_username": "x"}, "EXECUTION_KAFKA_USERNAME has no effect without"),
        (ENDPOINT | {"kafka_password": SECRET}, "EXECUTION_KAFKA_PASSWORD has no effect without"),
        (ENDPOINT | {"kafka_oauth_token_file": "/x"}, "exactly one of EXECUTION_KAFKA_OAUTH_TOKEN_FILE and"),
        (ENDPOINT | {"kafka_oauth_token_url": None}, "exactly one of EXECUTION_KAFKA_OAUTH_TOKEN_FILE and"),
        (ENDPOINT | {"kafka_oauth_client_id": None}, "EXECUTION_KAFKA_OAUTH_CLIENT_ID must be set"),
        (ENDPOINT | {"kafka_oauth_client_secret": None}, "exactly one of EXECUTION_KAFKA_OAUTH_CLIENT_SECRET and"),
        (ENDPOINT | {"kafka_oauth_token_url": "http://tokens.example/token"}, "must look like https://host/path"),
        (ENDPOINT | {"kafka_oauth_token_url": f"https://me:{SECRET}@tokens.example"}, "without a password in it"),
        (ENDPOINT | {"kafka_oauth_token_url": "https://tokens.example:port/"}, "must look like https://host/path"),
        ({"kafka_allow_plaintext": True, "kafka_tls_ca_file": "/x"}, "EXECUTION_KAFKA_TLS_CA_FILE has no effect"),
        (
            {"kafka_security_protocol": "SSL", "kafka_tls_key_file": "/x"},
            "EXECUTION_KAFKA_TLS_KEY_FILE has no effect without EXECUTION_KAFKA_TLS_CERTIFICATE_FILE",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_with_what_to_do(given: dict[str, Any], said: str) -> None:
    assert said in problems_of(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SCRAM | {"kafka_password": None, "kafka_password_file": "{}/none"}, "PASSWORD_FILE: the secret in {}/none"),
        (SCRAM | {"kafka_password": None, "kafka_password_file": "{}/empty"}, "cannot be read: it is empty"),
        (SCRAM | {"kafka_password": None, "kafka_password_file": "{}/bytes"}, "cannot be read: it is not UTF-8"),
        (SCRAM | {"kafka_tls_ca_file": "{}/none"}, "the CA file {}/none cannot be used: No such file"),
        (SCRAM | {"kafka_tls_ca_file": "{}/empty"}, "the CA file {}/empty cannot be used"),
        (SCRAM | {"kafka_tls_certificate_file": "{}/empty"}, "the certificate {}/empty with its key cannot be used"),
        (ENDPOINT | {"kafka_oauth_ca_file": "{}/none"}, "EXECUTION_KAFKA_OAUTH_CA_FILE: the CA file {}/none"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(SECRET.encode() + b"\xff")
    placed = {
        name: value.format(tmp_path) if name.endswith("file") and value else value for name, value in given.items()
    }
    assert said.format(tmp_path) in problems_of(**placed)


@pytest.mark.parametrize("name", ["kafka_password", "kafka_oauth_client_secret", "kafka_tls_key_password"])
def test_a_bad_secret_is_refused_without_being_repeated(name: str) -> None:
    problem = problems_of(**{name: SECRET * 1_000})
    assert f"EXECUTION_{name.upper()}" in problem
    assert SECRET not in problem


@pytest.mark.parametrize("given", [SCRAM, ENDPOINT])
def test_nothing_shows_a_secret(given: dict[str, Any]) -> None:
    settings = Settings.load(kafka_bootstrap_servers=FAR, **given)
    connection: KafkaConnection = kafka_connection(settings)
    assert "example" in repr(connection)
    for shown in (repr(settings), settings.model_dump_json(), repr(connection), str(connection.security)):
        assert SECRET not in shown


def test_without_brokers_there_is_nothing_to_talk_to() -> None:
    assert "EXECUTION_KAFKA_BOOTSTRAP_SERVERS: must be set" in problems_of(kafka_bootstrap_servers=None)
