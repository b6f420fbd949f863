"""EXEC-001 to EXEC-006, by the names under which the executor's first document (PIN-294) counts its tests."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from execution.steps import (
    EXECUTOR_VERSION,
    ExecutionContext,
    ExecutionResult,
    FailingHandler,
    InvalidPlanError,
    JobExecutor,
    JobStatus,
    JobStep,
    NoOpHandler,
    StepHandler,
    StepOutput,
    StepStatus,
    create_default_executor,
    execution_result_to_evidence,
    interrupted_result,
    machine,
    thaw,
)
from tests.support.step_plans import CONTRACT, JOB, Observer, Recording, carry_out, failing, plan_of, raising

CONTEXT = ExecutionContext(
    job_id=JOB,
    contract_id=CONTRACT,
    step_index=0,
    step_type="work",
    target="search",
    executed_by="tester",
    started_at=datetime(2026, 1, 4, tzinfo=UTC),
)
EVIDENCE_SHAPE: dict[str, Any] = {
    "job_id": "",
    "final_status": "",
    "final_reason": "",
    "execution_summary": {"steps_executed": 0, "steps_succeeded": 0, "steps_failed": 0},
    "step_results": [{"step_index", "status", "started_at", "completed_at", "output", "error"}],
    "health_observations": {"before": {}, "after": {}},
    "timing": {"started_at": "", "completed_at": "", "duration_seconds": 0.0},
    "executor_version": "",
}


@pytest.fixture
def handler() -> Recording:
    return Recording()


@pytest.fixture
def executor(handler: Recording) -> JobExecutor:
    """`work` succeeds and remembers it, `break` fails."""
    return JobExecutor({"work": handler, "break": failing()})


class TestEXEC001ExecutionOrder:
    def test_steps_are_executed_in_declared_order(self, executor: JobExecutor, handler: Recording) -> None:
        result = carry_out(executor, plan_of(*["work"] * 7))
        assert handler.executed == [0, 1, 2, 3, 4, 5, 6] == [one.step_index for one in result.step_results]

    def test_each_step_ends_before_the_next_begins(self, executor: JobExecutor) -> None:
        results = carry_out(executor, plan_of("work", "work", "work")).step_results
        moments = [moment for one in results for moment in (one.started_at, one.completed_at)]
        assert moments == sorted(moments)

    def test_indices_may_have_gaps_and_must_rise(self, executor: JobExecutor, handler: Recording) -> None:
        carry_out(executor, [JobStep(3, "work"), JobStep(10, "work")])
        assert handler.executed == [3, 10]
        for indices in ((1, 0), (0, 0)):
            with pytest.raises(InvalidPlanError, match="position 1"):
                carry_out(executor, [JobStep(index, "work") for index in indices])
        assert handler.executed == [3, 10], "a refused plan must not begin"

    def test_the_order_is_that_at_the_start(self) -> None:
        plan = plan_of("tamper", "tamper")

        def tamper(_step: JobStep, _context: ExecutionContext) -> StepOutput:
            plan.reverse()
            plan.append(JobStep(9, "tamper"))
            return StepOutput(success=True)

        handler = Recording(tamper)
        carry_out(JobExecutor({"tamper": handler}), plan)
        assert handler.executed == [0, 1]


class TestEXEC002EvidenceEmission:
    def test_every_executed_step_has_a_result(self, executor: JobExecutor) -> None:
        result = carry_out(executor, plan_of("work", "work", "break"))
        statuses = [one.status for one in result.step_results]
        assert statuses == [StepStatus.COMPLETED, StepStatus.COMPLETED, StepStatus.FAILED]
        assert (result.steps_executed, result.steps_succeeded, result.steps_failed) == (3, 2, 1)

    def test_a_result_says_who_did_what_and_when(self, executor: JobExecutor) -> None:
        before = datetime.now(UTC)
        [one] = carry_out(executor, plan_of("work", size=3), actor="crm").step_results
        assert one.handler is not None
        assert (one.handler.name, one.handler.version) == ("recording", "2.1.0")
        assert (one.executed_by, one.step.parameters, one.output) == ("crm", {"size": 3}, {"target": "target-0"})
        assert before <= one.started_at <= one.completed_at <= datetime.now(UTC)

    def test_a_failed_step_keeps_its_output_and_error(self) -> None:
        executor = JobExecutor({"break": failing("no disk", {"written": 12})})
        [one] = carry_out(executor, plan_of("break")).step_results
        assert (one.status, one.output, one.error) == (StepStatus.FAILED, {"written": 12}, "no disk")

    @pytest.mark.parametrize("error", [ValueError("two\nlines"), KeyError("k"), RecursionError(), AssertionError("no")])
    def test_a_handler_that_raises_is_a_failed_step(self, error: Exception) -> None:
        result = carry_out(JobExecutor({"raise": Recording(raising(error))}), plan_of("raise", "raise"))
        [one] = result.step_results
        assert (result.final_status, one.status, one.output) == (JobStatus.FAILED, StepStatus.FAILED, None)
        assert one.error is not None
        assert one.error.startswith(f"{type(error).__name__}: ")

    def test_an_error_that_cannot_be_told_is_a_failed_step(self) -> None:
        class UntellableError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        [one] = carry_out(JobExecutor({"raise": Recording(raising(UntellableError()))}), plan_of("raise")).step_results
        assert one.error == "UntellableError: UntellableError"

    @pytest.mark.parametrize(
        "answer", [None, {"success": True}, True, StepOutput, KeyboardInterrupt(), (StepOutput(True),)], ids=repr
    )
    def test_a_wrong_type_is_a_failed_step(self, answer: Any) -> None:
        result = carry_out(JobExecutor({"odd": Recording(lambda *_: answer)}), plan_of("odd", "odd"))
        [one] = result.step_results
        assert one.status is StepStatus.FAILED
        assert one.error == f"the handler returned a value of type {type(answer).__name__}; it must return a StepOutput"

    def test_a_coroutine_is_a_wrong_type_and_is_closed(self) -> None:
        class Asynchronous:
            async def execute(self, _step: JobStep, _context: ExecutionContext) -> StepOutput:
                raise AssertionError("nobody awaits it")

        executor = JobExecutor()
        executor.register_handler("later", Asynchronous())  # type: ignore[arg-type]  # what mypy would find, too
        [one] = carry_out(executor, plan_of("later")).step_results
        assert one.error is not None
        assert "coroutine" in one.error

    @pytest.mark.parametrize(
        ("output", "why"),
        [
            ({"at": datetime(2026, 1, 4, tzinfo=UTC)}, "datetime"),
            ({"ratio": float("nan")}, "nan"),
            ({"count": 2**53}, "2\\^53"),
            ({1: "one"}, "key 1"),
            ({"name": "\ud800"}, "surrogate"),
            (["a list"], "list"),
            ({"deep": [[[[[[[[] for _ in range(2)]]]]]]] * 2} | {"x": {1, 2}}, "set"),
        ],
        ids=str,
    )
    def test_an_output_that_evidence_cannot_hold_is_a_failed_step(self, output: Any, why: str) -> None:
        executor = JobExecutor({"odd": Recording(lambda *_: StepOutput(success=True, output=output))})
        [one] = carry_out(executor, plan_of("odd")).step_results
        assert one.status is StepStatus.FAILED
        assert re.search(why, one.error or "")

    def test_an_endless_output_is_a_failed_step(self) -> None:
        endless: list[Any] = []
        endless += [endless, endless]
        executor = JobExecutor({"odd": Recording(lambda *_: StepOutput(success=True, output={"endless": endless}))})
        [one] = carry_out(executor, plan_of("odd")).step_results
        assert one.error is not None
        assert "64 levels" in one.error

    def test_an_error_is_kept_storable_and_bounded(self) -> None:
        [one] = carry_out(JobExecutor({"x": failing("\x00\udcff" + "é" * 10_000)}), plan_of("x")).step_results
        assert one.error is not None
        assert one.error.startswith("��éé")
        assert len(one.error) == 2000

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
    def test_an_interrupt_goes_on_and_carries_the_evidence(self, interrupt: BaseException) -> None:
        executor = JobExecutor({"work": Recording(), "stop": Recording(raising(interrupt))})
        observer = Observer()
        with pytest.raises(type(interrupt)) as raised:
            carry_out(executor, plan_of("work", "stop", "work"), observer)
        assert raised.value is interrupt
        result = interrupted_result(raised.value)
        assert result is not None
        assert [one.status for one in result.step_results] == [StepStatus.COMPLETED, StepStatus.OUTCOME_UNKNOWN]
        assert result.final_status is JobStatus.FAILED
        assert type(interrupt).__name__ in result.final_reason
        assert observer.asked == 2, "after an interrupt nobody else's code is called"
        assert interrupted_result(KeyboardInterrupt()) is None


class TestEXEC003StopOnFailure:
    def test_the_first_failure_ends_the_job(self, executor: JobExecutor, handler: Recording) -> None:
        result = carry_out(executor, plan_of("work", "break", "work", "break"))
        assert handler.executed == [0]
        assert [one.step_index for one in result.step_results] == [0, 1]
        assert result.final_status is JobStatus.FAILED

    def test_the_reason_names_step_and_error(self, executor: JobExecutor) -> None:
        assert carry_out(executor, plan_of("work", "break")).final_reason == "Step 1 failed: it broke"
        nameless = JobExecutor({"break": failing(error=None)})
        assert carry_out(nameless, plan_of("break")).final_reason == "Step 0 failed: the handler gave no reason"

    def test_a_missing_handler_is_a_failure(self, executor: JobExecutor, handler: Recording) -> None:
        result = carry_out(executor, plan_of("work", "dance", "work"))
        last = result.step_results[-1]
        assert (last.status, last.handler, last.output) == (StepStatus.FAILED, None, None)
        assert last.error == "No handler is registered for step type 'dance'; there is one for: break, work"
        assert handler.executed == [0]

    def test_the_plan_is_kept_whole(self, executor: JobExecutor) -> None:
        plan = plan_of("break", "work", "work")
        result = carry_out(executor, plan)
        assert result.steps == tuple(plan)
        assert result.steps_executed == 1


class TestEXEC004HealthObservation:
    def test_health_is_observed_before_and_after_each_step(self, executor: JobExecutor) -> None:
        observer = Observer()
        result = carry_out(executor, plan_of("work", "break", "work"), observer)
        assert observer.asked == 3
        assert result.health_before == observer.health == result.health_after
        assert all(one.health_before == one.health_after == observer.health for one in result.step_results)

    def test_a_handler_sees_a_read_only_view(self) -> None:
        observer = Observer({"load": [1, 2], "database": {"up": True}})
        seen: list[BaseException] = []

        def tamper(_step: JobStep, context: ExecutionContext) -> StepOutput:
            health: Any = context.health
            for change in (
                lambda: health.update(up=False),
                lambda: health["load"].append(3),
                lambda: health["database"].__setitem__("up", False),
                lambda: health.pop("load"),
                health["load"].sort,
                lambda: setattr(context, "health", None),
            ):
                with pytest.raises((TypeError, FrozenInstanceError)) as refused:
                    change()
                seen.append(refused.value)
            return StepOutput(success=True)

        result = carry_out(JobExecutor({"tamper": Recording(tamper)}), plan_of("tamper"), observer)
        assert len(seen) == 6
        assert result.health_after == observer.health == {"load": [1, 2], "database": {"up": True}}

    def test_an_observation_is_a_copy(self, executor: JobExecutor) -> None:
        observer = Observer({"load": [1]})
        result = carry_out(executor, plan_of("work"), observer)
        observer.health["load"].append(2)
        assert result.health_before == {"load": [1]}
        copy = thaw(result.health_before)
        copy["load"].append(7)
        assert (result.health_before, observer.health) == ({"load": [1]}, {"load": [1, 2]})

    @pytest.mark.parametrize("health", [None, {"at": object()}], ids=["none", "no document"])
    def test_health_that_cannot_be_observed_stops_nothing(self, executor: JobExecutor, health: Any) -> None:
        class Blind:
            def observe_health(self) -> dict[str, Any]:
                if health is None:
                    raise OSError("no such sensor")
                return dict(health)

        result = carry_out(executor, plan_of("work"), Blind())
        assert result.final_status is JobStatus.COMPLETED
        assert result.health_after is not None
        assert re.search("no such sensor|holds a object", result.health_after["observation_error"])

    def test_an_interrupt_while_observing_carries_the_evidence(self, executor: JobExecutor, handler: Recording) -> None:
        class Interrupting(Observer):
            def observe_health(self) -> dict[str, Any]:
                if super().observe_health() and self.asked == 2:
                    raise KeyboardInterrupt
                return self.health

        with pytest.raises(KeyboardInterrupt) as raised:
            carry_out(executor, plan_of("work", "work"), Interrupting())
        result = interrupted_result(raised.value)
        assert result is not None
        assert [one.status for one in result.step_results] == [StepStatus.COMPLETED]
        assert (result.final_status, handler.executed) == (JobStatus.FAILED, [0])
        assert result.final_reason.startswith("Cut off between steps by KeyboardInterrupt")

    def test_without_an_observer_nothing_is_observed(self, executor: JobExecutor, handler: Recording) -> None:
        result = carry_out(executor, plan_of("work"))
        assert (result.health_before, result.health_after, handler.calls[0][1].health) == (None, None, None)


class TestEXEC005NoContractMutation:
    def test_a_step_and_its_parameters_cannot_be_changed(self) -> None:
        given: dict[str, Any] = {"hosts": ["a"], "limits": {"cpu": 1}}
        step: Any = JobStep(0, "work", "search", given)
        given["hosts"].append("b")
        given["limits"]["cpu"] = 64
        assert step.parameters == {"hosts": ["a"], "limits": {"cpu": 1}}
        for change in (
            lambda: setattr(step, "step_type", "other"),
            lambda: step.parameters.update(cpu=2),
            lambda: step.parameters["hosts"].append("c"),
            step.parameters["limits"].clear,
            lambda: step.parameters.__ior__({"more": 1}),
            lambda: step.parameters["hosts"].__iadd__(["c"]),
        ):
            with pytest.raises((TypeError, FrozenInstanceError)):
                change()
        assert step.parameters == {"hosts": ["a"], "limits": {"cpu": 1}}

    def test_context_output_and_result_cannot_be_changed(self, executor: JobExecutor) -> None:
        result = carry_out(executor, plan_of("work"))
        for value, name in (
            (CONTEXT, "step_index"),
            (CONTEXT, "contract_id"),
            (StepOutput(success=True), "success"),
            (result, "final_status"),
            (result.step_results[0], "status"),
        ):
            with pytest.raises(FrozenInstanceError):
                setattr(value, name, None)
        assert isinstance(result.step_results, tuple)

    def test_an_output_is_what_it_was_when_it_was_returned(self) -> None:
        output = {"written": [1]}
        executor = JobExecutor({"work": Recording(lambda *_: StepOutput(success=True, output=output))})
        result = carry_out(executor, plan_of("work"))
        output["written"].append(2)
        assert result.step_results[0].output == {"written": [1]}

    def test_a_handler_is_given_nothing_that_could_change_a_contract(self) -> None:
        fields = set(ExecutionContext.__dataclass_fields__)
        assert fields == {
            *("job_id", "contract_id", "step_index", "step_type", "target", "executed_by", "started_at", "health")
        }
        assert [name for name in dir(JobExecutor) if not name.startswith("_")] == [
            *("execute_job", "register_handler", "version")
        ]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"step_index": -1},
            {"step_index": True},
            {"step_index": "0"},
            {"step_type": ""},
            {"step_type": None},
            {"target": 7},
            {"target": "\udcff"},
            {"timeout_seconds": 0},
            {"timeout_seconds": float("inf")},
            {"weight": float("nan")},
            {"weight": -1},
        ],
        ids=str,
    )
    def test_a_step_that_cannot_be_is_refused_when_it_is_made(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidPlanError, match=next(iter(wrong))):
            JobStep(**{"step_index": 0, "step_type": "work", **wrong})

    def test_what_is_no_step_is_refused(self, executor: JobExecutor, handler: Recording) -> None:
        with pytest.raises(InvalidPlanError, match="position 1: it holds a dict"):
            carry_out(executor, [JobStep(0, "work"), {"step_index": 1}])  # type: ignore[list-item]  # on purpose
        assert handler.executed == []


class TestEXEC006NoRetryLogic:
    @pytest.mark.parametrize(
        "act",
        [raising(TimeoutError()), lambda *_: StepOutput(False), lambda *_: None],
        ids=["raises", "says that it failed", "gives nothing"],
    )
    def test_a_failed_step_is_called_once(self, act: Any) -> None:
        handler = Recording(act)
        carry_out(JobExecutor({"try": handler}), plan_of("try", "try"))
        assert handler.executed == [0]

    def test_an_interrupted_step_is_called_once(self) -> None:
        handler = Recording(raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            carry_out(JobExecutor({"try": handler}), plan_of("try", "try"))
        assert handler.executed == [0]

    def test_the_machine_calls_a_handler_in_one_place_and_has_no_other_loop(self) -> None:
        tree = ast.parse(inspect.getsource(machine))
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "handler.execute"
        ]
        loops = [ast.unparse(node.iter) for node in ast.walk(tree) if isinstance(node, ast.For)]
        assert len(calls) == 1
        assert loops == ["(handlers or {}).items()", "plan"]
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.While)]

    def test_there_is_nothing_to_retry_with(self) -> None:
        names = {name for value in (JobExecutor, ExecutionResult, machine) for name in dir(value)}
        assert not [name for name in names if re.search("retry|rerun|repeat|again|backoff", name, re.IGNORECASE)]


class TestStepHandlers:
    def test_the_no_op_handler_always_succeeds(self) -> None:
        assert NoOpHandler().execute(JobStep(0, "work"), CONTEXT) == StepOutput(success=True)

    def test_the_failing_handler_always_fails(self) -> None:
        step = JobStep(0, "work")
        assert FailingHandler("no power").execute(step, CONTEXT) == StepOutput(success=False, error="no power")
        assert FailingHandler().execute(step, CONTEXT).error

    def test_a_handler_is_given_step_and_context(self, executor: JobExecutor, handler: Recording) -> None:
        plan = plan_of("work", key="value", number=42)
        result = carry_out(executor, plan, actor="crm")
        [(step, context)] = handler.calls
        assert step is plan[0]
        assert (context.job_id, context.contract_id, context.executed_by) == (JOB, CONTRACT, "crm")
        assert (context.step_index, context.step_type, context.target) == (0, "work", "target-0")
        assert context.started_at == result.step_results[0].started_at

    def test_a_handler_is_registered_in_place_of_another(self, executor: JobExecutor, handler: Recording) -> None:
        executor.register_handler("work", failing("replaced"))
        assert carry_out(executor, plan_of("work")).final_reason == "Step 0 failed: replaced"
        assert handler.calls == []

    def test_a_handler_registered_during_a_job_is_for_the_next_one(self) -> None:
        executor = JobExecutor()

        def register_another(_step: JobStep, _context: ExecutionContext) -> StepOutput:
            executor.register_handler("late", Recording())
            return StepOutput(success=True)

        executor.register_handler("early", Recording(register_another))
        assert carry_out(executor, plan_of("early", "late")).final_status is JobStatus.FAILED
        assert carry_out(executor, plan_of("early", "late")).final_status is JobStatus.COMPLETED

    @pytest.mark.parametrize(("step_type", "handler"), [("", NoOpHandler()), ("x", NoOpHandler), ("x", object())])
    def test_what_cannot_execute_is_not_registered(self, step_type: str, handler: Any) -> None:
        with pytest.raises(TypeError, match=r"step type|execute"):
            JobExecutor({step_type: handler})

    def test_a_handler_without_a_name_is_known_by_its_class(self) -> None:
        class Nameless:
            def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
                return StepOutput(success=True, output={"at": context.step_index + step.step_index})

        handler: StepHandler = Nameless()
        [one] = carry_out(JobExecutor({"x": handler}), plan_of("x")).step_results
        assert one.handler is not None
        assert one.handler.name.endswith("Nameless")
        assert (one.handler.version, one.handler.idempotent) == ("unversioned", False)

    def test_a_step_output_says_plainly_how_it_went(self) -> None:
        with pytest.raises(TypeError, match="success"):
            StepOutput(success="yes")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="error"):
            StepOutput(success=False, error=ValueError())  # type: ignore[arg-type]  # on purpose


class TestExecutorMetadata:
    def test_the_executor_has_a_version(self) -> None:
        assert JobExecutor().version == EXECUTOR_VERSION == "1.0.0"
        assert JobExecutor(executor_version="7.1.2").version == "7.1.2"

    def test_the_version_is_semantic(self) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+", EXECUTOR_VERSION)

    def test_evidence_includes_the_version(self) -> None:
        result = carry_out(JobExecutor({"x": NoOpHandler()}, executor_version="7.1.2"), plan_of("x"))
        assert execution_result_to_evidence(result)["executor_version"] == "7.1.2"


class TestExecutorIntegration:
    def test_a_job_that_succeeds(self) -> None:
        observer = Observer()
        plan = plan_of("capability_enable", "noop", "capability_disable")
        result = carry_out(create_default_executor(), plan, observer, actor="integration")
        assert (result.job_id, result.contract_id, result.executed_by) == (JOB, CONTRACT, "integration")
        assert (result.steps_executed, result.steps_succeeded, result.steps_failed) == (3, 3, 0)
        assert (result.final_status, result.final_reason) == (JobStatus.COMPLETED, "All steps completed successfully")
        assert result.started_at < result.completed_at
        assert_seed_shape(execution_result_to_evidence(result))

    def test_a_job_that_fails_half_way(self, executor: JobExecutor) -> None:
        result = carry_out(executor, plan_of("work", "work", "break", "work"), Observer())
        evidence = execution_result_to_evidence(result)
        assert_seed_shape(evidence)
        assert evidence["final_reason"] == "Step 2 failed: it broke"
        assert [one["status"] for one in evidence["step_results"]] == ["COMPLETED", "COMPLETED", "FAILED"]
        assert [one["error"] for one in evidence["step_results"]] == [None, None, "it broke"]

    def test_a_job_without_steps(self) -> None:
        result = JobExecutor().execute_job(job_id=uuid4(), contract_id=uuid4(), steps=[])
        assert (result.final_status, result.steps_executed) == (JobStatus.COMPLETED, 0)

    def test_evidence_is_the_readers_to_change(self, executor: JobExecutor) -> None:
        result = carry_out(executor, plan_of("work"), Observer())
        evidence = execution_result_to_evidence(result)
        evidence["step_results"][0]["output"]["more"] = True
        evidence["health_observations"]["before"]["capabilities"].clear()
        assert result.step_results[0].output == {"target": "target-0"}
        assert result.health_before == Observer().health


def assert_seed_shape(evidence: dict[str, Any]) -> None:
    """Exactly the keys of PIN-294, in its order."""
    for name, expected in EVIDENCE_SHAPE.items():
        if name == "step_results":
            assert all(set(one) == expected[0] for one in evidence[name])
        elif isinstance(expected, dict) and name != "health_observations":
            assert {key: type(value) for key, value in evidence[name].items()} == {
                key: type(value) for key, value in expected.items()
            }
        elif name == "health_observations":
            assert list(evidence[name]) == ["before", "after"]
    assert list(evidence) == list(EVIDENCE_SHAPE)


def test_the_document_counts_at_least_this_many_tests() -> None:
    counted = {
        "TestEXEC001ExecutionOrder": 4,
        "TestEXEC002EvidenceEmission": 5,
        "TestEXEC003StopOnFailure": 4,
        "TestEXEC004HealthObservation": 4,
        "TestEXEC005NoContractMutation": 3,
        "TestEXEC006NoRetryLogic": 3,
        "TestStepHandlers": 4,
        "TestExecutorMetadata": 3,
        "TestExecutorIntegration": 3,
    }
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name, least in counted.items():
        tests = [one for one in classes[name].body if getattr(one, "name", "").startswith("test_")]
        assert len(tests) >= least, name
