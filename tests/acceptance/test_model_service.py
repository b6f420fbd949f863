"""`execution model-service`: kind `agent.task` with the model in another process, and without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client.core import Metric

from events.commands import InProcessCommandBus
from execution.domain.state import ExecutionState
from execution.errors import SettingsError
from execution.model_metrics import model_call_metrics
from execution.repository.agents import Agent, AgentDirectory
from execution.service import ExecutionService
from execution.settings import Settings
from tests.support.cli_process import cli_process
from tests.support.kafka import delete_topics, read_topic
from tests.support.service import PATIENCE, working_service
from tests.support.worker_process import environment

TEXT = "Kafka carries the call. The model answers it. Nobody else does."


@pytest.fixture
async def over_kafka(kafka: str) -> AsyncIterator[dict[str, Any]]:
    """Settings of those who call, and of those who answer."""
    topics = [f"test.{uuid4().hex}" for _ in range(2)]
    yield {
        "kafka_bootstrap_servers": kafka,
        "kafka_model_commands_topic": topics[0],
        "kafka_model_replies_topic": topics[1],
    }
    await delete_topics(kafka, topics)


def figures(service: ExecutionService) -> dict[str, float]:
    families: list[Metric] = list(model_call_metrics(service.task_runner.command_bus))
    return {sample.name: sample.value for family in families for sample in family.samples}


async def submitted(service: ExecutionService) -> Any:
    await AgentDirectory(service.repository.db).register(Agent(id="writer", model="m-1"))
    execution = await service.create_execution(kind="agent.task", parameters={"text": TEXT}, agent_id="writer")
    return await service.wait(execution.id, PATIENCE)


async def test_another_process_answers(database_url: str, over_kafka: dict[str, Any]) -> None:
    async with cli_process("model-service", environment(database_url, **over_kafka)) as answering:
        ready = await answering.ready()
        assert (ready["topic"], ready["problem"]) == (over_kafka["kafka_model_commands_topic"], None)
        async with working_service(database_url, **over_kafka) as service:
            ended = await submitted(service)
            assert (ended.state, ended.result["model"]) == (ExecutionState.COMPLETED, "extractive-summarizer")
            assert figures(service) == {
                "execution_model_calls_total": 1,
                "execution_model_call_failures_total": 0,
                "execution_model_late_replies_total": 0,
                "execution_model_rebuilds_total": 0,
            }
        assert await answering.stop() == 0
    for kind in ("commands", "replies"):
        topic = over_kafka[f"kafka_model_{kind}_topic"]
        assert len(await read_topic(over_kafka["kafka_bootstrap_servers"], topic)) == 1  # and as the contract says


async def test_without_one_the_execution_fails_and_says_why(database_url: str, over_kafka: dict[str, Any]) -> None:
    async with working_service(database_url, model_timeout_seconds=3, **over_kafka) as service:
        ended = await submitted(service)
        assert ended.state is ExecutionState.FAILED
        assert "no reply to 'model.complete' within 3 s" in ended.error["message"]
        assert figures(service)["execution_model_call_failures_total"] == 1


async def test_it_can_stay_in_the_process(database_url: str, over_kafka: dict[str, Any]) -> None:
    async with working_service(database_url, model_service="embedded", **over_kafka) as service:
        assert (await submitted(service)).state is ExecutionState.COMPLETED
        assert isinstance(service.task_runner.command_bus, InProcessCommandBus)
        assert set(figures(service)) == set()


def test_kafka_has_to_be_there_to_be_used() -> None:
    with pytest.raises(SettingsError, match="EXECUTION_KAFKA_BOOTSTRAP_SERVERS"):
        Settings.load(model_service="kafka")
