"""The AsyncAPI document as a judge of records: whatever a test reads from Kafka is compared with what was promised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema_rs
import orjson

from execution.api.asyncapi import kafka_contract as kafka_document
from execution.settings import Settings

DEAD_LETTER = "DeadLetter"
_TYPE = "ce_type"
_DEAD_LETTER_MARK = "dlq-error"


class KafkaContract:
    """The messages of a document, each with what says whether a record is one."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._components = document["components"]
        self._messages: dict[str, dict[str, Any]] = self._components["messages"]
        self._by_type = {
            message["headers"]["properties"][_TYPE]["const"]: name
            for name, message in self._messages.items()
            if _TYPE in message["headers"]["properties"]
        }
        self._families = {one.partition(".")[0] for one in self._by_type}
        self._validators: dict[tuple[str, str], Any] = {}

    def check(self, record: Any) -> None:
        """Is it as its type promises? Types of other families than ours, or none, are made up by a test.

        Raises:
            AssertionError: no, with all that is wrong.
        """
        headers = {name: value.decode(errors="replace") for name, value in record.headers}
        if headers.get(_TYPE, "").partition(".")[0] in self._families or _DEAD_LETTER_MARK in headers:
            problems = list(self.problems(record.key, record.value, headers))
            assert problems == [], f"{headers} {record.value!r}: {problems}"

    def problems(self, key: bytes | None, value: bytes | None, headers: Mapping[str, str]) -> Iterator[str]:
        """What about a record is not as the document says."""
        name = DEAD_LETTER if _DEAD_LETTER_MARK in headers else self._by_type.get(headers.get(_TYPE, ""))
        message = self._messages.get(name or "")
        if name is None or message is None:
            yield f"{headers.get(_TYPE)} is not in the contract"
            return
        yield from self._against(name, "headers", message["headers"], dict(headers))
        yield from self._against(name, "key", message["bindings"]["kafka"]["key"], (key or b"").decode())
        if "payload" in message and (value or not message.get("x-may-be-empty")):
            try:
                payload = orjson.loads(value or b"")
            except orjson.JSONDecodeError as error:
                yield f"the payload is no JSON: {error}"
                return
            yield from self._against(name, "payload", message["payload"], payload)
        yield from self._unheard_of(name, message, headers, value)

    def _against(self, name: str, part: str, schema: Mapping[str, Any], instance: object) -> Iterator[str]:
        validator = self._validators.get((name, part))
        if validator is None:
            # Beside a reference nothing counts; so the root is one and holds what it refers to.
            rooted = {"allOf": [schema], "components": {"schemas": self._components["schemas"]}}
            validator = jsonschema_rs.Draft7Validator(rooted, validate_formats=True)
            self._validators[name, part] = validator
        for error in validator.iter_errors(instance):
            yield f"{part} {'/'.join(map(str, error.instance_path))}: {error.message}"

    def _unheard_of(
        self, name: str, message: Mapping[str, Any], headers: Mapping[str, str], value: bytes | None
    ) -> Iterator[str]:
        """What readers are told to ignore must not be how this release forgets to tell them."""
        if name != DEAD_LETTER:
            for one in headers.keys() - message["headers"]["properties"].keys():
                yield f"the header {one} is not in the contract"
        schema = self._resolved(message.get("payload", {}))
        if value and schema.get("properties") and schema.get("additionalProperties") is not True:
            for one in orjson.loads(value or b"").keys() - schema["properties"].keys():
                yield f"the member {one} is not in the contract"

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        resolved: Mapping[str, Any] = self._components["schemas"][reference.rpartition("/")[2]] if reference else schema
        return resolved


@cache
def kafka_contract() -> KafkaContract:
    """That of this release."""
    return KafkaContract(kafka_document(Settings()))
