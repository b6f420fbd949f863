"""`HandlerRegistry`: what can be registered, how it is found, and what is wrong with what cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from execution.domain.execution import JsonObject
from execution.errors import InvalidDocumentError, SettingsError, UnknownKindError
from execution.handlers import HandlerRegistry, TaskContext


class Pages(BaseModel):
    first: int = Field(ge=1)
    last: int


class Renderer:
    """A handler with something of its own."""

    async def run(self, context: TaskContext, parameters: Pages) -> JsonObject:
        """Render the pages.

        Slowly.
        """
        return {}


async def loose(context: TaskContext, parameters: JsonObject) -> JsonObject:
    return parameters


def blocking(context: TaskContext, parameters: JsonObject) -> JsonObject:
    return parameters


@pytest.fixture
def registry() -> HandlerRegistry:
    return HandlerRegistry()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes an importable module and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    return write


class TestRegister:
    def test_by_decorator(self, registry: HandlerRegistry) -> None:
        decorated = registry.handler("report.render", idempotent=True)(loose)
        assert decorated is loose
        handler = registry.get("report.render")
        assert (handler.function, handler.isolation, handler.idempotent) == (loose, "task", True)

    def test_a_method_with_a_model_and_a_description(self, registry: HandlerRegistry) -> None:
        handler = registry.register("report.render", Renderer().run)
        assert handler.parameters_model is Pages
        assert handler.description == "Render the pages."
        assert not handler.idempotent

    def test_where_each_kind_of_function_runs(self, registry: HandlerRegistry) -> None:
        assert registry.register("a", loose).isolation == "task"
        assert registry.register("b", blocking).isolation == "thread"
        assert registry.register("c", blocking, isolation="process").isolation == "process"
        assert registry.kinds == ["a", "b", "c"]

    def test_a_kind_twice(self, registry: HandlerRegistry) -> None:
        registry.register("a", loose)
        with pytest.raises(ValueError, match="kind 'a' is registered twice"):
            registry.register("a", blocking)

    @pytest.mark.parametrize(("function", "isolation"), [(loose, "thread"), (loose, "process"), (blocking, "task")])
    def test_a_function_where_it_cannot_run(
        self, registry: HandlerRegistry, function: Callable[..., Any], isolation: Any
    ) -> None:
        with pytest.raises(ValueError, match="plain `def` in a thread or a process"):
            registry.register("a", function, isolation=isolation)

    def test_a_function_with_other_parameters(self, registry: HandlerRegistry) -> None:
        with pytest.raises(ValueError, match=r"must take exactly \(context, parameters\)"):
            registry.register("a", lambda parameters: parameters)

    def test_including_another_registry(self, registry: HandlerRegistry) -> None:
        other = HandlerRegistry()
        other.register("b", loose)
        registry.register("a", loose)
        registry.include(other)
        assert registry.kinds == ["a", "b"]
        with pytest.raises(ValueError, match="kind 'b' is registered twice"):
            registry.include(other)


class TestGet:
    def test_an_unknown_kind_names_the_known_ones(self, registry: HandlerRegistry) -> None:
        registry.register("report.render", loose)
        with pytest.raises(UnknownKindError, match=r"Known kinds: report\.render.*EXECUTION_HANDLERS"):
            registry.get("report.redner")


class TestParse:
    def test_without_a_model_parameters_pass_as_they_came(self, registry: HandlerRegistry) -> None:
        assert registry.register("a", loose).parse({"anything": [1]}) == {"anything": [1]}

    def test_with_a_model_they_are_validated(self, registry: HandlerRegistry) -> None:
        handler = registry.register("a", Renderer().run)
        assert handler.parse({"first": 1, "last": 2}) == Pages(first=1, last=2)

    def test_what_does_not_fit_is_named(self, registry: HandlerRegistry) -> None:
        handler = registry.register("report.render", Renderer().run)
        with pytest.raises(InvalidDocumentError, match=r"'report\.render'.*first: .*greater.*last: .*required"):
            handler.parse({"first": 0})


class TestLoad:
    def test_a_module_registers_its_own(self, registry: HandlerRegistry, module: Callable[[str, str], str]) -> None:
        text = "async def f(context, parameters): ...\ndef register(registry): registry.register('loaded', f)\n"
        registry.load([module("good_handlers", text)])
        assert "loaded" in registry

    def test_all_problems_are_told_at_once(self, registry: HandlerRegistry, module: Callable[[str, str], str]) -> None:
        names = [
            "no_such_module",
            module("without_register", ""),
            module("broken_import", "undefined_name"),
            module("broken_register", "def register(registry): registry.register('x', lambda: None)"),
        ]
        with pytest.raises(SettingsError) as raised:
            registry.load(names)
        assert [next(name for name in names if name in problem) for problem in raised.value.problems] == names
        assert "NameError" in raised.value.problems[2]
        assert "exactly (context, parameters)" in raised.value.problems[3]
