"""What the settings of steps are made of: programs, origins, networks, headers, variables."""

from __future__ import annotations

import json
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from execution.setting_types import split_on

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_FOR_PLANS = frozenset({"authorization", "cookie", "proxy-authorization"})
_OF_THE_CONNECTION = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_LOADERS = ("LD_", "DYLD_", "EXECUTION_")


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """An origin in the one form in which they are compared: lower case, the port always there, IPv6 in brackets."""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{scheme}://{shown}:{port or _PORTS.get(scheme, 0)}".lower()


def _check_program(path: Path) -> Path:
    # Not resolved here: a request names the program as it stands in the setting, and is compared with that. Where
    # several names are links to one file (BusyBox), allowing one of them must not allow the others.
    if not path.is_absolute():
        raise ValueError(f"{path} must be an absolute path")
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ValueError(f"{path} is not an executable file")
    return path


def _check_origin(text: str) -> str:
    expected = ValueError("must look like https://api.example.com or http://10.0.0.7:8080, and have no path")
    try:
        parts = urlsplit(text.lower())
        port = parts.port  # parsed, and refused, only when read
    except ValueError:
        raise expected from None
    host = parts.netloc.removesuffix(f":{port}")
    if (
        parts.scheme not in _PORTS
        or not _HOST.fullmatch(host)
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise expected
    return origin_of(parts.scheme, host, port)


def _check_network(text: object) -> object:
    return ip_network(text) if isinstance(text, str) else text


def _check_header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("must be the names of headers")
    if name.lower() in _OF_THE_CONNECTION:
        raise ValueError(f"{name.lower()} follows from the request itself")
    return name.lower()


def _check_public_header_name(name: str) -> str:
    if name in _NOT_FOR_PLANS:
        raise ValueError(f"{name} holds a secret: set it in EXECUTION_STEPS_HTTP_CREDENTIALS")
    return name


def _check_header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("the value of a header must be visible ASCII characters")
    return value


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("must be the names of environment variables")
    if name.startswith(_LOADERS):
        raise ValueError(f"{name} must not be set by steps: it reaches into the program, or into this service")
    return name


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(
            'must be a JSON object such as {"https://api.example.com": {"Authorization": "..."}}'
        ) from None


Program = Annotated[Path, AfterValidator(_check_program)]
Origin = Annotated[str, AfterValidator(_check_origin)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_check_network)]
HeaderName = Annotated[str, AfterValidator(_check_header_name)]
Secret = Annotated[SecretStr, AfterValidator(_check_header_value)]

Programs = Annotated[tuple[Program, ...], NoDecode, split_on(os.pathsep)]
Origins = Annotated[tuple[Origin, ...], NoDecode, split_on(",")]
Networks = Annotated[tuple[Network, ...], NoDecode, split_on(",")]
HeaderNames = Annotated[
    tuple[Annotated[HeaderName, AfterValidator(_check_public_header_name)], ...], NoDecode, split_on(",")
]
VariableNames = Annotated[tuple[Annotated[str, AfterValidator(_check_variable)], ...], NoDecode, split_on(",")]
Credentials = Annotated[dict[Origin, dict[HeaderName, Secret]], NoDecode, BeforeValidator(_parse_json)]
