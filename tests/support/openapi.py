"""What the OpenAPI document says is served, for tests that go through all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

METHODS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    document: dict[str, Any]

    @property
    def takes_a_body(self) -> bool:
        return "requestBody" in self.document

    @property
    def path_parameters(self) -> list[str]:
        return [one["name"] for one in self.document.get("parameters", []) if one["in"] == "path"]

    def url(self, value: object) -> str:
        """Its path with this value for each parameter."""
        return self.path.format(**dict.fromkeys(self.path_parameters, value))

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations(app: FastAPI) -> Iterator[Operation]:
    """Every operation under /v1."""
    for path, item in app.openapi()["paths"].items():
        if path.startswith("/v1/"):
            for method in METHODS:
                if method in item:
                    yield Operation(method.upper(), path, item[method])
