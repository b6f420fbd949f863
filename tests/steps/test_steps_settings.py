"""The settings of steps: nothing is allowed by default, and a mistake is refused with what to write instead."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from execution.errors import SettingsError
from execution.settings import Settings

SECRET = "token-Qp7uX2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EXECUTION_")]:
        monkeypatch.delenv(name)


def problem_of(**overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**overrides)
    (problem,) = caught.value.problems
    return problem


def test_nothing_outside_is_allowed_by_default() -> None:
    settings = Settings.load()
    for allowed in (
        settings.steps_shell_programs,
        settings.steps_shell_folders,
        settings.steps_http_origins,
        settings.steps_http_private_networks,
        settings.steps_http_credentials,
        settings.steps_files_roots,
    ):
        assert not allowed


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXECUTION_STEPS_SHELL_PROGRAMS", f"/bin/sh{os.pathsep}{sys.executable}")
    monkeypatch.setenv("EXECUTION_STEPS_FILES_ROOTS", str(tmp_path))
    monkeypatch.setenv("EXECUTION_STEPS_HTTP_ORIGINS", "https://API.example.com, http://10.0.0.7:8080/, http://[::1]")
    monkeypatch.setenv("EXECUTION_STEPS_HTTP_PRIVATE_NETWORKS", "10.0.0.0/8,::1/128")
    monkeypatch.setenv("EXECUTION_STEPS_HTTP_HEADERS", "Accept,X-Request")
    monkeypatch.setenv(
        "EXECUTION_STEPS_HTTP_CREDENTIALS", f'{{"https://api.example.com": {{"Authorization": "Bearer {SECRET}"}}}}'
    )
    settings = Settings.load()
    assert settings.steps_shell_programs == (Path("/bin/sh"), Path(sys.executable)), "as they are named, not resolved"
    assert settings.steps_files_roots == (tmp_path.resolve(),)
    assert settings.steps_http_origins == ("https://api.example.com:443", "http://10.0.0.7:8080", "http://[::1]:80")
    assert [str(one) for one in settings.steps_http_private_networks] == ["10.0.0.0/8", "::1/128"]
    assert settings.steps_http_headers == ("accept", "x-request")
    ((origin, headers),) = settings.steps_http_credentials.items()
    assert (origin, headers["authorization"].get_secret_value()) == ("https://api.example.com:443", f"Bearer {SECRET}")


def test_secrets_are_not_shown() -> None:
    settings = Settings.load(
        steps_http_origins="https://h", steps_http_credentials={"https://h": {"Authorization": f"Bearer {SECRET}"}}
    )
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("steps_shell_programs", "ls", "must be an absolute path"),
        ("steps_shell_programs", "/bin/no-such-program", "is not an executable file"),
        ("steps_shell_programs", "/bin", "is not an executable file"),
        ("steps_shell_programs", "/etc/passwd", "is not an executable file"),
        ("steps_shell_folders", "/no/such/folder", "is not an existing folder"),
        ("steps_shell_variables", "LD_PRELOAD", "must not be set by steps"),
        ("steps_shell_variables", "EXECUTION_DATABASE_URL", "must not be set by steps"),
        ("steps_shell_variables", "A=B", "names of environment variables"),
        ("steps_http_origins", "api.example.com", "must look like https://api.example.com"),
        ("steps_http_origins", "https://u:p@h", "must look like https://api.example.com"),
        ("steps_http_origins", "https://*.example.com", "must look like https://api.example.com"),
        ("steps_http_origins", "https://h/path", "must look like https://api.example.com"),
        ("steps_http_origins", "https://h:99999", "must look like https://api.example.com"),
        ("steps_http_origins", "ftp://h", "must look like https://api.example.com"),
        ("steps_http_private_networks", "10.0.0.1/8", "host bits set"),
        ("steps_http_private_networks", "inside", "does not appear to be"),
        ("steps_http_headers", "Authorization", "EXECUTION_STEPS_HTTP_CREDENTIALS"),
        ("steps_http_headers", "Host", "follows from the request itself"),
        ("steps_http_headers", "a b", "names of headers"),
        ("steps_http_credentials", f"{SECRET}", "must be a JSON object"),
        ("steps_http_credentials", f'{{"https://h": "{SECRET}"}}', "valid dictionary"),
        ("steps_http_credentials", f'{{"https://h": {{"X": "{SECRET}\\n"}}}}', "visible ASCII"),
        (
            "steps_http_credentials",
            f'{{"https://h": {{"X": "{SECRET}"}}}}',
            "one of EXECUTION_STEPS_HTTP_ORIGINS",
        ),
        ("steps_http_ca_file", "/no/such/file", "not point to a file"),
    ],
)
def test_mistakes(setting: str, value: str, says: str) -> None:
    problem = problem_of(**{setting: value})
    assert f"EXECUTION_{setting.upper()}" in problem
    assert says in problem
    assert SECRET not in problem
