"""Any plan with any pattern of failures obeys EXEC-001, 002, 003 and 006."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from execution.steps import JobExecutor, JobStatus, JobStep, StepOutput, StepStatus, evidence_bundle, verify_bundle
from tests.support.step_plans import Observer, Recording, carry_out, raising

OUTCOMES: dict[str, Any] = {
    "succeed": lambda *_: StepOutput(success=True, output={"done": [1, 2.5, None]}),
    "fail": lambda *_: StepOutput(success=False, error="no"),
    "raise": raising(RuntimeError("é")),
    "unencodable": lambda *_: StepOutput(success=True, output={"no": object()}),
    "wrong": lambda *_: "done",
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLANS = st.lists(
    st.tuples(
        st.sampled_from([*OUTCOMES, *["succeed"] * 6, "missing"]),
        st.integers(1, 5),
        st.dictionaries(st.text(max_size=5), JSON, max_size=2),
    ),
    max_size=8,
)


@given(drawn=PLANS, observed=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_plan_obeys_the_rules(drawn: list[tuple[str, int, dict[str, Any]]], *, observed: bool) -> None:
    handlers = {name: Recording(act) for name, act in OUTCOMES.items()}
    plan, index = [], -1
    for step_type, gap, parameters in drawn:
        index += gap
        plan.append(JobStep(index, step_type, parameters=parameters))
    result = carry_out(JobExecutor(handlers), plan, Observer() if observed else None)

    first_failure = next((at for at, (name, *_) in enumerate(drawn) if name != "succeed"), None)
    expected = plan if first_failure is None else plan[: first_failure + 1]
    calls = sorted(step.step_index for handler in handlers.values() for step, _ in handler.calls)
    assert [one.step for one in result.step_results] == expected, "EXEC-001, EXEC-002, EXEC-003"
    assert calls == [step.step_index for step in expected if step.step_type != "missing"], "EXEC-006"
    assert all(one.status is StepStatus.COMPLETED for one in result.step_results[:first_failure])
    assert (result.final_status is JobStatus.COMPLETED) == (first_failure is None)
    verified = verify_bundle(evidence_bundle(result))
    assert (verified.steps_planned, verified.steps_executed) == (len(plan), len(expected))
