"""The built-in handlers as the registry knows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution.builtin import register_builtin_handlers
from execution.builtin.files_inventory import InventoryParameters
from execution.builtin.text_analyze import TextParameters
from execution.errors import InvalidDocumentError
from execution.handlers import HandlerRegistry


@pytest.fixture
def registry(tmp_path: Path) -> HandlerRegistry:
    registry = HandlerRegistry()
    register_builtin_handlers(registry, [tmp_path])
    return registry


def test_each_is_registered_as_idempotent_with_its_isolation_and_a_description(registry: HandlerRegistry) -> None:
    assert {handler.kind: handler.isolation for handler in registry} == {
        "noop": "task",
        "files.inventory": "thread",
        "text.analyze": "thread",
    }
    assert all(handler.idempotent and handler.description for handler in registry)


def test_parameters_become_models_where_a_handler_reads_files(registry: HandlerRegistry) -> None:
    assert registry.get("files.inventory").parse({}) == InventoryParameters()
    assert registry.get("text.analyze").parse({"path": "a.txt"}) == TextParameters(path="a.txt")
    assert registry.get("noop").parse({}) == {}


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("files.inventory", {"depth": 3}, "depth"),
        ("files.inventory", {"max_files": 0}, "max_files"),
        ("files.inventory", {"largest": 51}, "largest"),
        ("files.inventory", {"ignore": "node_modules"}, "ignore"),
        ("text.analyze", {}, "path"),
        ("text.analyze", {"path": "a", "encoding": "base64"}, "not a text encoding"),
        ("text.analyze", {"path": "a", "encoding": "utf-9\0"}, "not a text encoding"),
        ("text.analyze", {"path": "a", "top": 201}, "top"),
    ],
)
def test_unfit_parameters_are_refused_by_name(
    registry: HandlerRegistry, kind: str, parameters: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidDocumentError, match=named):
        registry.get(kind).parse(parameters)
