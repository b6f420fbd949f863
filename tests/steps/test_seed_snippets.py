"""The usage snippets of PIN-294, as they stand there (only where names come from is adapted), and that of our guide."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Optional, Protocol, get_args, get_type_hints
from uuid import UUID

import pytest

import execution.steps
from execution.steps import (
    ExecutionContext,
    ExecutionResult,
    HealthObserver,
    JobExecutor,
    JobStatus,
    JobStep,
    NoOpHandler,
    StepHandler,
    StepOutput,
)
from tests.support.step_plans import Observer, Recording, carry_out, plan_of

GUIDE = Path(__file__).parents[2] / "docs" / "steps.md"
PROTOCOLS = '''
class HealthObserver(Protocol):
    """Read-only health observation."""
    def observe_health(self) -> dict[str, Any]: ...

class StepHandler(Protocol):
    """Executes a specific step type."""
    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput: ...
'''

REGISTRATION = """
# Create executor with default handlers
executor = create_default_executor()

# Or create custom executor
executor = JobExecutor()
executor.register_handler("capability_enable", EnableHandler())
executor.register_handler("capability_disable", DisableHandler())
"""

SIGNATURE = '''
def execute_job(
    self,
    job_id: UUID,
    contract_id: UUID,
    steps: list[JobStep],
    health_observer: Optional[HealthObserver] = None,
    executed_by: str = "executor",
) -> ExecutionResult:
    """
    Execute a job's steps in order.
    """
'''


def run_snippet(source: str, **names: Any) -> dict[str, Any]:
    public = {name: getattr(execution.steps, name) for name in execution.steps.__all__}
    namespace = {**public, "Any": Any, "Optional": Optional, "Protocol": Protocol, "UUID": UUID, **names}
    exec(compile(source, "PIN-294", "exec", dont_inherit=True), namespace)
    return namespace


def test_handlers_are_registered_as_the_snippet_does_it() -> None:
    class EnableHandler(Recording): ...

    class DisableHandler(Recording): ...

    executor = run_snippet(REGISTRATION, EnableHandler=EnableHandler, DisableHandler=DisableHandler)["executor"]
    result = carry_out(executor, plan_of("capability_enable", "capability_disable"))
    assert result.final_status is JobStatus.COMPLETED
    names = [one.handler.name for one in result.step_results if one.handler]
    assert names == ["recording", "recording"]


def test_the_protocols_of_the_snippet_are_those_here() -> None:
    theirs = run_snippet(PROTOCOLS)
    for name, ours, method in (
        ("HealthObserver", HealthObserver, "observe_health"),
        ("StepHandler", StepHandler, "execute"),
    ):
        function, expected = getattr(ours, method), getattr(theirs[name], method)
        assert list(inspect.signature(function).parameters) == list(inspect.signature(expected).parameters)
        assert get_type_hints(function) == get_type_hints(expected, theirs)


def test_execute_job_is_called_as_the_snippet_declares_it() -> None:
    expected = inspect.signature(run_snippet(SIGNATURE)["execute_job"])
    found = inspect.signature(JobExecutor.execute_job)
    assert list(found.parameters) == list(expected.parameters)
    assert [one.default for one in found.parameters.values()] == [one.default for one in expected.parameters.values()]
    hints = get_type_hints(JobExecutor.execute_job)
    assert (hints["job_id"], hints["contract_id"], hints["return"]) == (UUID, UUID, ExecutionResult)
    assert set(get_args(hints["health_observer"])) == {HealthObserver, type(None)}
    executor = JobExecutor({"noop": NoOpHandler()})
    positional = executor.execute_job(UUID(int=1), UUID(int=2), [JobStep(0, "noop")], Observer(), "crm")
    assert positional.executed_by == "crm"


def test_all_names_of_both_documents_are_exported() -> None:
    exported = {
        *("create_default_executor", "execution_result_to_evidence", "HealthObserver", "StepHandler", "StepOutput"),
        *("ExecutionContext", "ExecutionResult", "JobExecutor", "NoOpHandler", "FailingHandler"),
    }
    assert exported <= set(execution.steps.__all__)
    assert ExecutionContext is execution.steps.ExecutionContext
    assert StepOutput is execution.steps.StepOutput


def test_the_example_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    [example, *_] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    namespace = run_snippet(example)
    assert namespace["result"].final_status is JobStatus.COMPLETED
    assert re.fullmatch(r"All steps completed successfully sha256:[0-9a-f]{64}\n", capsys.readouterr().out)
