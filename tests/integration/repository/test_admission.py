"""More submissions than can be recorded: refused at once and in words, before they pile up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from execution.domain.commands import Cancel
from execution.domain.state import ExecutionState
from execution.errors import OverloadedError
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from tests.support.service import working_service
from tests.support.stored import carry_out, submit

LIMIT = 3


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[ExecutionRepository]:
    """A repository where few creations may wait."""
    async with Database(database_url, submission_queue_limit=LIMIT) as database:
        yield ExecutionRepository(database)


async def test_what_is_too_much_is_refused_and_the_rest_recorded(narrow: ExecutionRepository) -> None:
    answers = await asyncio.gather(*(submit(narrow) for _ in range(LIMIT + 4)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, OverloadedError)]
    assert len(refused) == 4
    assert "EXECUTION_SUBMISSION_QUEUE_LIMIT" in str(refused[0])
    assert all((error.code, error.status, error.retriable) == ("overloaded", 503, True) for error in refused)
    assert await narrow.db.pool.fetchval("SELECT count(*) FROM executions") == LIMIT
    assert (await submit(narrow)).state is ExecutionState.PENDING


async def test_what_was_accepted_is_never_refused_its_end(narrow: ExecutionRepository) -> None:
    accepted = [await submit(narrow) for _ in range(LIMIT + 2)]
    full = [asyncio.create_task(submit(narrow)) for _ in range(LIMIT)]
    ended = await asyncio.gather(*(carry_out(narrow, one, Cancel()) for one in accepted))
    assert {one.state for one in ended} == {ExecutionState.CANCELLED}
    await asyncio.gather(*full)


async def test_the_facade_refuses_before_it_looks_at_the_submission(database_url: str) -> None:
    async with working_service(database_url, submission_queue_limit=LIMIT) as service:
        waiting = [asyncio.create_task(service.create_execution("noop")) for _ in range(LIMIT)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="again"):
            await service.create_execution("no.such.kind")
        await asyncio.gather(*waiting)
