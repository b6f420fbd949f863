"""What `submit` is given on the command line, turned into parameters and a retry policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from execution.domain.execution import JsonObject
from execution.errors import InvalidRequestError

_RETRY_NAMES = {
    "attempts": "max_attempts",
    "initial_delay": "initial_delay",
    "multiplier": "multiplier",
    "max_delay": "max_delay",
    "jitter": "jitter",
    "error_types": "error_types",
}


class UnreadableOptionError(InvalidRequestError):
    """An option of the command line that says nothing usable."""

    code = "unreadable_option"

    def __init__(self, option: str, given: str, problem: str) -> None:
        super().__init__(f"{option} {given!r} cannot be used: {problem}.")


class ConflictingOptionsError(InvalidRequestError):
    """Two options that contradict each other."""

    code = "conflicting_options"

    def __init__(self, one: str, other: str, why: str) -> None:
        super().__init__(f"{one} and {other} do not go together: {why}. Leave one of them out.")


def read_parameters(options: Iterable[str], json_parameters: str | None = None) -> JsonObject:
    """The parameters: first `--json-parameters`, then every `-p`, each later one over the earlier ones.

    Raises:
        UnreadableOptionError: it says which option and why.
    """
    parameters: JsonObject = {}
    if json_parameters is not None:
        parameters |= _object(json_parameters, "--json-parameters", json_parameters)
    for option in options:
        parameters |= _parameter(option)
    return parameters


def read_retry_policy(option: str) -> JsonObject:
    """The fields of a retry policy from `attempts=3,initial_delay=1,...`; their values are checked by the submission.

    Raises:
        UnreadableOptionError: a part is not NAME=VALUE, or the name is unknown.
    """
    policy: JsonObject = {}
    for part in option.split(","):
        name, separator, value = part.strip().partition("=")
        if not separator or name not in _RETRY_NAMES:
            raise UnreadableOptionError("--retry", option, f"write it as NAME=VALUE,... of {', '.join(_RETRY_NAMES)}")
        policy[_RETRY_NAMES[name]] = value.split("|") if name == "error_types" else _value(value)
    return policy


def _parameter(option: str) -> JsonObject:
    if option.startswith("@"):
        return _object(_content(option), "-p", option)
    name, separator, value = option.partition("=")
    if not separator or not name:
        raise UnreadableOptionError("-p", option, "write it as key=value, or @file.json for a whole JSON object")
    return {name: _value(value)}


def _content(option: str) -> str:
    """The text of `@FILE`, or of standard input for `@-`."""
    try:
        return sys.stdin.read() if option == "@-" else Path(option[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UnreadableOptionError("-p", option, str(problem).lower()) from None


def _object(text: str, option: str, given: str) -> JsonObject:
    try:
        value = _parsed(text)
    except ValueError as error:
        raise UnreadableOptionError(option, given, f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UnreadableOptionError(option, given, "it is not a JSON object")
    return value


def _value(text: str) -> Any:
    """JSON if it is JSON, otherwise the text itself."""
    try:
        return _parsed(text)
    except ValueError:
        return text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    """NaN and the infinities, which Python would take for numbers and JSON does not know."""
    raise ValueError(f"{constant} is not JSON")
