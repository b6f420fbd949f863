"""What settings are made of: what each kind of value looks like in the environment, and what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

_API_KEY = re.compile(r"[A-Za-z0-9._~+/-]{32,}=*")


def split_on(separator: str) -> BeforeValidator:
    """A list in one environment variable; blanks around its items and empty items do not count."""

    def split(value: object) -> object:
        return [item.strip() for item in value.split(separator) if item.strip()] if isinstance(value, str) else value

    return BeforeValidator(split)


def _check_database_url(url: SecretStr) -> SecretStr:
    """Refuses without repeating the URL, which may hold a password."""
    if not _is_postgresql_url(url.get_secret_value()):
        raise ValueError("must look like postgresql://user:password@host:5432/database")
    return url


def _check_api_key(key: SecretStr) -> SecretStr:
    if not _API_KEY.fullmatch(key.get_secret_value()):
        raise ValueError(
            "must be at least 32 of the characters A-Z a-z 0-9 - . _ ~ + /, such as `openssl rand -hex 32`"
        )
    return key


def _check_command_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 32:
        raise ValueError("must have at least 32 characters, such as `openssl rand -hex 32` gives")
    return secret


def _split_topics(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [item.partition("=") for item in value.split(",") if item.strip()]
    if not all(equals for _, equals, _ in pairs) or len({topic for topic, _, _ in pairs}) < len(pairs):
        raise ValueError("must look like topic=tenant,topic=tenant, with each topic once")
    return {topic.strip(): tenant.strip() for topic, _, tenant in pairs}


def _is_postgresql_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed, and refused, only when read
    except ValueError:
        return False
    return parts.scheme in ("postgresql", "postgres")


def _check_servers(servers: tuple[str, ...]) -> tuple[str, ...]:
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host.strip("[]") or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError("must look like host:port,host:port")
    if not servers:
        raise ValueError("must name at least one host:port")
    return servers


def _check_folder(path: Path) -> Path:
    resolved = path.expanduser().resolve()
    if not resolved.is_dir():
        raise ValueError(f"{resolved} is not an existing folder")
    return resolved


def _uppercase(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database_url)]
ApiKeyText = Annotated[SecretStr, AfterValidator(_check_api_key)]
Names = Annotated[tuple[str, ...], NoDecode, split_on(",")]
Servers = Annotated[tuple[str, ...], NoDecode, split_on(","), AfterValidator(_check_servers)]
TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
TenantTopics = Annotated[
    dict[TopicName, Annotated[str, Field(min_length=1, max_length=100)]], NoDecode, BeforeValidator(_split_topics)
]
CommandSecret = Annotated[SecretStr, AfterValidator(_check_command_secret)]
Folders = Annotated[tuple[Annotated[Path, AfterValidator(_check_folder)], ...], NoDecode, split_on(os.pathsep)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_uppercase)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
