"""Kind `agent.task`, the seed's standard task: the agent looked up, its model called, its answer processed."""

from __future__ import annotations

import asyncio

import pytest

from execution.domain.execution import JsonObject
from execution.errors import AgentNotFoundError, ModelOrchestrationError
from execution.repository.agents import Agent, AgentDirectory
from execution.repository.database import Database
from execution.task_runner import MODEL_COMMAND
from tests.support.task_bench import Bench


class TestStandardTask:
    """Kind `agent.task`: prepare, call the model, process."""

    async def test_prepare(self, bench: Bench, database: Database) -> None:
        await AgentDirectory(database).register(Agent(id="writer", model="m-1", instructions="Be brief."))
        execution = await bench.claim(agent_id="writer", parameters={"text": "x"})
        assert await bench.runner.prepare_task_input(execution) == {
            "execution_id": str(execution.id),
            "agent": {"id": "writer", "model": "m-1", "instructions": "Be brief."},
            "input": {"text": "x"},
        }

    @pytest.mark.parametrize(
        ("agent_id", "words"), [(None, "No agent is named"), ("nobody", "'nobody' is not registered")]
    )
    async def test_an_agent_that_does_not_exist(self, bench: Bench, agent_id: str | None, words: str) -> None:
        execution = await bench.claim(agent_id=agent_id)
        with pytest.raises(AgentNotFoundError, match=words):
            await bench.runner.prepare_task_input(execution)

    async def test_another_tenants_agent_does_not_exist(self, bench: Bench, database: Database) -> None:
        await AgentDirectory(database).register(Agent(id="writer", model="m-1", tenant_id="theirs"))
        execution = await bench.claim(agent_id="writer")
        with pytest.raises(AgentNotFoundError):
            await bench.runner.prepare_task_input(execution)

    async def test_the_model_answers_over_the_command_bus(self, bench: Bench) -> None:
        bench.bus.respond(MODEL_COMMAND, lambda payload: {"output": {"echo": payload["input"]}})
        execution = await bench.claim()
        assert await bench.runner.call_model_service(execution, {"input": "x"}) == {"output": {"echo": "x"}}

    async def test_a_model_that_fails_or_is_late_or_missing(self, bench: Bench) -> None:
        execution = await bench.claim()
        with pytest.raises(ModelOrchestrationError, match="nobody answers"):
            await bench.runner.call_model_service(execution, {})

        async def never(_: JsonObject) -> JsonObject:
            await asyncio.Event().wait()
            return {}

        bench.bus.respond(MODEL_COMMAND, never)
        with pytest.raises(ModelOrchestrationError, match=r"no reply .* within 0.05 s"):
            await bench.runner.call_model_service(execution, {})

        bench.bus.respond(MODEL_COMMAND, lambda payload: payload["missing"])
        with pytest.raises(ModelOrchestrationError, match=str(execution.id)) as raised:
            await bench.runner.call_model_service(execution, {})
        assert raised.value.retriable

    def test_processing(self, bench: Bench) -> None:
        answer = {"output": {"summary": "s"}, "model": "m-1", "usage": {"tokens": 3}, "internal": "x"}
        assert bench.runner.process_results(answer) == {
            "output": {"summary": "s"},
            "model": "m-1",
            "usage": {"tokens": 3},
        }
        with pytest.raises(ModelOrchestrationError, match="no `output` object"):
            bench.runner.process_results({"output": "text"})

    async def test_the_whole_task(self, bench: Bench, database: Database) -> None:
        await AgentDirectory(database).register(Agent(id="writer", model="m-1"))
        bench.bus.respond(MODEL_COMMAND, lambda payload: {"output": {"of": payload["agent"]["model"]}, "model": "m-1"})
        after = await bench.run(bench.runner.execute_standard_task, agent_id="writer")
        assert after.result == {"output": {"of": "m-1"}, "model": "m-1", "usage": {}}
        history = await bench.repository.get_history(after.id)
        reports = [item.data["percentage"] for item in history if item.type == "agent.execution.progress"]
        assert reports[0] == 10
        assert reports == sorted(reports)
        assert after.progress.percentage == 90
