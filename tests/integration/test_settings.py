"""Settings: what the environment may say, and how a mistake in it is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from execution.errors import SettingsError
from execution.settings import Settings, UnknownVariable


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EXECUTION_")]:
        monkeypatch.delenv(name)


def problems_of(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**overrides)
    return caught.value.problems


def test_nothing_has_to_be_set() -> None:
    settings = Settings.load()
    assert settings.database_url is None
    assert settings.data_dir == Path(".execution")
    assert settings.worker_kinds is None
    assert settings.files_roots == (Path.cwd(),)


def test_every_field_says_what_it_is_and_why() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no text under it"
        assert "Default" in field.description or "Unset" in field.description, name


def test_settings_do_not_change() -> None:
    settings, name = Settings.load(), "port"
    with pytest.raises(ValidationError):
        setattr(settings, name, 1)


class TestEnvironment:
    def test_names_are_separated_by_commas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXECUTION_HANDLERS", "billing.handlers, reports ,")
        monkeypatch.setenv("EXECUTION_WORKER_KINDS", "noop")
        settings = Settings.load()
        assert settings.handlers == ("billing.handlers", "reports")
        assert settings.worker_kinds == ("noop",)

    def test_folders_are_separated_as_in_path_and_links_are_resolved(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        monkeypatch.setenv("EXECUTION_FILES_ROOTS", f"{tmp_path / 'link'}{os.pathsep}{tmp_path}")
        assert Settings.load().files_roots == (tmp_path / "real", tmp_path)

    def test_an_argument_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXECUTION_PORT", "9000")
        assert Settings.load().port == 9000
        assert Settings.load(port=9001).port == 9001

    def test_an_empty_variable_is_an_unset_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXECUTION_DATABASE_URL", "")
        monkeypatch.setenv("EXECUTION_MEMORY_LIMIT_MIB", "")
        settings = Settings.load()
        assert settings.database_url is None
        assert settings.memory_limit_mib is None

    def test_a_misspelled_variable_is_listed_with_the_nearest_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXECUTION_DATABSE_URL", "postgresql://localhost/x")
        monkeypatch.setenv("EXECUTION_QQQQQQQQQQ", "1")
        monkeypatch.setenv("EXECUTION_PORT", "9000")
        assert Settings.unknown_environment() == [
            UnknownVariable(name="EXECUTION_DATABSE_URL", nearest="EXECUTION_DATABASE_URL"),
            UnknownVariable(name="EXECUTION_QQQQQQQQQQ", nearest=None),
        ]


class TestDatabaseUrl:
    @pytest.mark.parametrize("url", ["postgresql://u:secret@h:5432/d", "postgres://h/d", "postgresql:///d?host=/run"])
    def test_postgresql_addresses_are_taken(self, url: str) -> None:
        settings = Settings.load(database_url=url)
        assert settings.database_url is not None
        assert settings.database_url.get_secret_value() == url

    def test_the_password_is_not_shown(self) -> None:
        settings = Settings.load(database_url="postgresql://u:whispered@h/d")
        assert "whispered" not in repr(settings)
        assert "whispered" not in settings.model_dump_json()

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://u:secret@h/d",
            "postgresql+asyncpg://u:secret@h/d",
            "postgresql://u:secret@h:port/d",
            "postgresql://u:secret@[h/d",
            "u:secret",
        ],
    )
    def test_another_address_is_refused_without_its_password(self, url: str) -> None:
        (problem,) = problems_of(database_url=url)
        assert problem.startswith("EXECUTION_DATABASE_URL: must look like postgresql://")
        assert "secret" not in problem

    def test_the_password_is_not_in_the_traceback_either(self) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.load(database_url="mysql://u:secret@h/d")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        with pytest.raises(ValidationError) as raw:
            Settings(database_url="mysql://u:secret@h/d")
        assert "secret" not in str(raw.value)


class TestApiKey:
    def test_one_that_cannot_be_guessed_is_taken_and_not_shown(self) -> None:
        key = "abcdefghijklmnopqrstuvwxyz-._~+/0=="
        settings = Settings.load(api_key=key)
        assert settings.api_key is not None
        assert settings.api_key.get_secret_value() == key
        assert key not in repr(settings)

    @pytest.mark.parametrize("key", ["secret" * 5, "secret" * 6 + " ", "secret" * 6 + "ä", "=" * 40])
    def test_another_one_is_refused_without_repeating_it(self, key: str) -> None:
        (problem,) = problems_of(api_key=key)
        assert problem.startswith("EXECUTION_API_KEY: must be at least 32 of the characters")
        assert "secret" not in problem


class TestMistakes:
    def test_each_bad_field_has_its_line(self) -> None:
        problems = problems_of(port=99_999, log_level="loud", append_lanes=9, files_roots="missing")
        assert [problem.split(":")[0] for problem in problems] == [
            "EXECUTION_APPEND_LANES",
            "EXECUTION_FILES_ROOTS",
            "EXECUTION_PORT",
            "EXECUTION_LOG_LEVEL",
        ]
        assert "got 99999" in problems[2]

    def test_a_worker_must_be_silent_for_three_heartbeats_to_be_dead(self) -> None:
        (problem,) = problems_of(heartbeat_interval_seconds=2, worker_timeout_seconds=5.9)
        assert "EXECUTION_WORKER_TIMEOUT_SECONDS (5.9) must be at least 3 times" in problem
        assert Settings.load(heartbeat_interval_seconds=2, worker_timeout_seconds=6).worker_timeout_seconds == 6

    @pytest.mark.parametrize("value", [0, -1, "nan", "inf", "soon"])
    def test_a_time_is_a_positive_number(self, value: object) -> None:
        (problem,) = problems_of(statement_timeout_seconds=value)
        assert problem.startswith("EXECUTION_STATEMENT_TIMEOUT_SECONDS: input should be")

    def test_every_progress_report_may_be_recorded(self) -> None:
        assert Settings.load(progress_interval_seconds=0).progress_interval_seconds == 0

    def test_an_unknown_argument_gets_a_suggestion(self) -> None:
        assert problems_of(databse_url="x") == ["databse_url is not a setting; did you mean database_url?"]


class TestKafka:
    def test_brokers_are_separated_by_commas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXECUTION_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092, [::1]:9093,localhost:9094")
        assert Settings.load().kafka_bootstrap_servers == ("127.0.0.1:9092", "[::1]:9093", "localhost:9094")

    @pytest.mark.parametrize("servers", ["localhost", "localhost:", "localhost:0", "localhost:70000", ":9092", ","])
    def test_what_is_no_broker_is_refused(self, servers: str) -> None:
        (problem,) = problems_of(kafka_bootstrap_servers=servers)
        assert "host:port" in problem

    @pytest.mark.parametrize("servers", ["broker.example:9092", "127.0.0.1:9092,10.0.0.1:9092"])
    def test_another_machine_without_encryption_is_refused_unless_it_is_meant(self, servers: str) -> None:
        (problem,) = problems_of(kafka_bootstrap_servers=servers)
        assert "EXECUTION_KAFKA_ALLOW_PLAINTEXT=true accepts that" in problem
        assert "set EXECUTION_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL" in problem
        assert Settings.load(kafka_bootstrap_servers=servers, kafka_allow_plaintext=True).kafka_bootstrap_servers
