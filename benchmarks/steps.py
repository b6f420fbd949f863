"""What the step machine costs: processor time per no-op step, beside a bare loop that calls the same handler.

`python -m benchmarks.steps` measures this alone; `python -m benchmarks` does with everything else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any
from uuid import UUID

from execution.steps import (
    ExecutionContext,
    ExecutionResult,
    HealthObserver,
    JobExecutor,
    JobStep,
    NoOpHandler,
    evidence_bundle,
    verify_bundle,
)

STEPS = 1_000
ROUNDS = 30
_ID = UUID(int=1)
_CONTEXT = ExecutionContext(
    job_id=_ID,
    contract_id=_ID,
    step_index=0,
    step_type="noop",
    target="target",
    executed_by="executor",
    started_at=datetime(2026, 1, 4, tzinfo=UTC),
)


class _Constant:
    """An observer that costs nothing itself, and sees about as much as a real one."""

    def observe_health(self) -> dict[str, Any]:
        return {"database": {"up": True, "milliseconds": 0.7}, "loop_lag_seconds": 0.001, "load": [0.5, 0.4, 0.3]}


def measure_steps(steps: int = STEPS, rounds: int = ROUNDS) -> dict[str, float]:
    """Microseconds of processor time per step, the median of rounds in which all are measured in turn."""
    handler, plan = NoOpHandler(), [JobStep(index, "noop", "target", {"index": index}) for index in range(steps)]
    executor = JobExecutor({"noop": handler})

    def job(observer: HealthObserver | None = None) -> ExecutionResult:
        return executor.execute_job(_ID, _ID, plan, observer)

    def bare() -> None:
        for step in plan:
            handler.execute(step, _CONTEXT)

    observed = job(_Constant())
    bundle = evidence_bundle(observed)
    measured = _in_turn(
        {
            "step_bare": bare,
            "step_executor": job,
            "step_executor_observed": lambda: job(_Constant()),
            "step_bundle": lambda: evidence_bundle(observed),
            "step_verify": lambda: verify_bundle(bundle),
        },
        rounds,
    )
    figures = {f"{name}_us": round(seconds / steps * 1e6, 3) for name, seconds in measured.items()}
    figures["step_overhead_us"] = round(figures["step_executor_us"] - figures["step_bare_us"], 3)
    return figures


def _in_turn(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of the processor for each: nothing here waits, and other programs may. In turn, against drift."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            taken[name].append(time.process_time() - began)
    return {name: median(all_of_it) for name, all_of_it in taken.items()}


if __name__ == "__main__":
    print(json.dumps(measure_steps(), indent=2))  # noqa: T201 - a program
