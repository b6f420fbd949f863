"""The evidence of a job as the audit takes it: one JSON document, whose shape is fixed (PIN-294, "Evidence Format")."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from execution.steps.frozen import thaw
from execution.steps.model import ExecutionResult, StepResult


def execution_result_to_evidence(result: ExecutionResult) -> dict[str, Any]:
    """The result as ordinary JSON values, which are the caller's to change."""
    return {
        "job_id": str(result.job_id),
        "final_status": result.final_status.value,
        "final_reason": result.final_reason,
        "execution_summary": {
            "steps_executed": result.steps_executed,
            "steps_succeeded": result.steps_succeeded,
            "steps_failed": result.steps_failed,
        },
        "step_results": [_step_evidence(one) for one in result.step_results],
        "health_observations": {"before": thaw(result.health_before), "after": thaw(result.health_after)},
        "timing": {
            "started_at": result.started_at.isoformat(),
            "completed_at": result.completed_at.isoformat(),
            "duration_seconds": result.duration_seconds,
        },
        "executor_version": result.executor_version,
    }


def _step_evidence(result: StepResult) -> dict[str, Any]:
    return {
        "step_index": result.step_index,
        "status": result.status.value,
        "started_at": result.started_at.isoformat(),
        "completed_at": result.completed_at.isoformat(),
        "output": asdict(result.stored_output) if result.stored_output else thaw(result.output),
        "error": result.error,
    }
