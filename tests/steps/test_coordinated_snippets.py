"""The usage snippet of the seed (PIN-520), as it stands there; only where the names are imported from is adapted."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from execution.service import ExecutionService
from execution.steps import (
    ExecutionCoordinator,
    JobStatus,
    JobStep,
    NoServiceError,
    create_coordinated_executor,
    using_service,
)

USAGE = """
from app.hoc.cus.hoc_spine.orchestrator.execution.job_executor import (
    create_coordinated_executor,
)

# Create executor with coordinator integration
executor = create_coordinated_executor()

# Execute with audit trail
result = await executor.execute_job_with_audit(
    job_id=job_id,
    tenant_id=tenant_id,
    contract_id=contract_id,
    steps=steps,
    handler="recovery_worker",
)

# Execute within P2FC-4 scope
result, scope_info = await executor.execute_scoped_job(
    job_id=job_id,
    tenant_id=tenant_id,
    incident_id=incident_id,
    action="restart_service",
    contract_id=contract_id,
    steps=steps,
)

# Get retry advice (advisory only - EXEC-006 compliant)
advice = executor.get_retry_advice(job_id, error, attempt_number=1)
if advice["should_retry"]:
    # Caller decides whether to retry
    delay = advice["delay_seconds"]
"""
GUIDE = Path(__file__).parents[2] / "docs" / "steps.md"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
SEEDS_MODULE = "app.hoc.cus.hoc_spine.orchestrator.execution.job_executor"


def names() -> dict[str, Any]:
    """What the snippet takes for given."""
    return {
        "job_id": uuid4(),
        "tenant_id": "mine",
        "contract_id": uuid4(),
        "incident_id": uuid4(),
        "steps": [JobStep(0, "capability_enable", "search")],
        "error": TimeoutError("too slow"),
    }


async def run(source: str, known: dict[str, Any]) -> dict[str, Any]:
    """The names that it leaves behind."""
    adapted = source.replace(SEEDS_MODULE, "execution.steps")
    running = eval(compile(adapted, "usage", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), known)
    if inspect.isawaitable(running):
        await running
    return known


async def test_the_whole_of_it(service: ExecutionService) -> None:
    """Its second call delivers the same job again, and so is given the first one's result."""
    with using_service(service):
        left = await run(USAGE, names())
    assert left["result"].final_status is JobStatus.COMPLETED
    assert left["scope_info"] == {}
    assert 0.8 <= left["delay"] <= 1.2


async def test_the_scoped_call_by_itself(service: ExecutionService) -> None:
    known = names()
    await ExecutionCoordinator(service).create_scope("mine", known["incident_id"], "restart_service")
    imported, created, _with_audit, scoped, _advice = USAGE.split("\n\n# ")
    with using_service(service):
        left = await run("\n# ".join((imported, created, scoped)), known)
    assert left["result"].final_status is JobStatus.COMPLETED
    assert (left["scope_info"]["action"], left["scope_info"]["uses_left"]) == ("restart_service", 0)


async def test_the_example_of_the_guide(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTION_DATABASE_URL", database_url)
    example = next(one for one in EXAMPLE.findall(GUIDE.read_text(encoding="utf-8")) if "ExecutionCoordinator" in one)
    said: list[object] = []
    left = await run(example, {"print": lambda *words: said.extend(words)})
    await left["main"]()
    assert said == ["All steps completed successfully", 2]


def test_the_machine_alone_loads_no_database_driver() -> None:
    program = "import sys, execution.steps.verify as _; print('asyncpg' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "False False\n"


async def test_without_a_service_it_says_what_to_do() -> None:
    with pytest.raises(NoServiceError, match="using_service"):
        await run(USAGE, names())


async def test_a_service_is_used_inside_only(service: ExecutionService) -> None:
    with using_service(service):
        assert create_coordinated_executor().version == "1.0.0"
    with pytest.raises(NoServiceError):
        create_coordinated_executor()
