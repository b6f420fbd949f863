"""What the containers are made of: pinned, healthy before they are used, closed to others, and without secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from execution.settings import Settings

REPOSITORY = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
_TAG = re.compile(r"[a-z0-9./-]+:\d+(\.\d+)+(-[a-z0-9.-]+)?")
_SECRET = re.compile(r"PASSWORD|API_KEY|SECRET|TOKEN|DATABASE_URL")
_REQUIRED = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")
_COMPOSE_SECONDS = 30.0


def is_secret_in_plain_text(name: str, value: str) -> bool:
    """A secret has to come from outside, and its absence has to stop everything."""
    password = value.partition("://")[2].partition("@")[0].partition(":")[2] if "://" in value else value
    return _SECRET.search(name) is not None and _REQUIRED.fullmatch(password) is None


def stages() -> list[tuple[str, str | None]]:
    """The image each stage of the Dockerfile begins with, and the stage's name."""
    found = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)
    return [(image, name or None) for image, name in found]


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_pinned_and_says_whether_it_is_healthy(name: str) -> None:
    service = SERVICES[name]
    assert _TAG.fullmatch(service["image"])
    assert "healthcheck" in service or (
        service["build"] == "." and re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    )
    assert all(wanted["condition"] == "service_healthy" for wanted in service.get("depends_on", {}).values())


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_but_this_machine_reaches_a_container(name: str) -> None:
    assert SERVICES[name]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_outside(name: str) -> None:
    assert [key for key, value in SERVICES[name]["environment"].items() if is_secret_in_plain_text(key, value)] == []


def test_the_rule_above_sees_what_it_is_to_see() -> None:
    assert is_secret_in_plain_text("POSTGRES_PASSWORD", "execution")
    assert is_secret_in_plain_text("POSTGRES_PASSWORD", "${POSTGRES_PASSWORD:-execution}")
    assert is_secret_in_plain_text("EXECUTION_DATABASE_URL", "postgresql://execution:execution@postgres/execution")
    assert not is_secret_in_plain_text("POSTGRES_PASSWORD", "${POSTGRES_PASSWORD:?is missing}")


def test_the_image_is_pinned_and_runs_without_rights() -> None:
    names = {name for _, name in stages()}
    assert all(image in names or _TAG.fullmatch(image) for image, _ in stages())
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert stages()[-1][1] is None
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    installs = re.findall(r"pip install .*", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_only_what_is_copied_goes_to_the_image() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    assert rules[0] == "*"
    assert copied == {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((REPOSITORY / source).exists() for source in copied)


def test_versions_are_the_same_wherever_they_stand() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pom = (REPOSITORY / "scripts/kafka/pom.xml").read_text(encoding="utf-8")
    kafka = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>(.+)</version>", pom)
    assert SERVICES["service"]["image"] == f"execution-service:{project['version']}"
    assert kafka is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka[1]}"


def test_what_the_service_is_told_are_settings() -> None:
    told = {
        name.removeprefix("EXECUTION_").lower() for name in SERVICES["service"]["environment"] if "EXECUTION_" in name
    }
    told |= {name.lower() for name in re.findall(r"EXECUTION_([A-Z_]+)=", DOCKERFILE)}
    assert told <= set(Settings.model_fields)


def test_the_program_that_starts_it_can_be_run() -> None:
    start = REPOSITORY / "scripts/container/start"
    assert os.access(start, os.X_OK)
    assert subprocess.run(["sh", "-n", start], check=False).returncode == 0


def test_compose_accepts_it() -> None:
    if shutil.which("docker") is None or _compose("version").returncode != 0:
        pytest.skip("there is no docker compose here")
    secrets = {"EXECUTION_API_KEY": "k" * 32, "POSTGRES_PASSWORD": "p" * 16}
    accepted = _compose("config", "--quiet", **secrets)
    assert accepted.returncode == 0, accepted.stderr
    assert "EXECUTION_API_KEY" in _compose("config", "--quiet", **secrets | {"EXECUTION_API_KEY": ""}).stderr


def _compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "compose", *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMPOSE_SECONDS,
    )
