"""The operations that an OpenAPI document declares, and the least request that each of them takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

METHODS = {"get", "post", "put", "patch", "delete"}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    body: Any
    """The least one that is valid; None if it takes none."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        """Of its path."""
        return [piece.partition("}")[0] for piece in self.path.split("{")[1:]]


def operations(document: Mapping[str, Any], under: str) -> Iterator[Operation]:
    """Those whose path begins so."""
    for path, methods in document["paths"].items():
        for method in METHODS & methods.keys() if path.startswith(under) else ():
            declared = methods[method]
            content = declared.get("requestBody", {}).get("content", {}).get("application/json")
            yield Operation(
                method=method.upper(),
                path=path,
                body=None if content is None else least(document, content["schema"]),
            )


def least(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """The least value that a schema allows, as far as this service's schemas go."""
    if "$ref" in schema:
        target: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return least(document, target)
    for chosen in ("const", "default"):
        if chosen in schema:
            return schema[chosen]
    for chosen in ("enum", "examples"):
        if chosen in schema:
            return schema[chosen][0]
    for chosen in ("anyOf", "oneOf", "allOf"):
        if chosen in schema:
            return least(document, schema[chosen][0])
    return _least_of_type(document, schema)


def _least_of_type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            return {name: least(document, schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return [least(document, schema["items"])] * schema.get("minItems", 0)
        case "string":
            return "x" * max(1, schema.get("minLength", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    return None
