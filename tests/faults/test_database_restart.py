"""PostgreSQL crashes and comes back while clients submit and a worker works."""

from __future__ import annotations

import asyncio

from execution.domain.execution import Execution
from execution.embedded import EmbeddedPostgres
from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.faults.conftest import Ledger, ended_at_last, insisting, submitted
from tests.support.checker import check_all_ended
from tests.support.service import running_worker, short_settings
from tests.support.worker_process import FAULT_HANDLERS, worker_process

CLIENTS = 8
EACH = 15


async def submit_on(service: ExecutionService, ledger: Ledger, halfway: asyncio.Event) -> list[Execution]:
    """One client: submits one after the other, and again where it got no answer; what was acknowledged."""
    acknowledged = []
    for number in range(EACH):
        acknowledged.append(await submit_one(service, ledger))
        if number == EACH // 2:
            halfway.set()
    return acknowledged


async def submit_one(service: ExecutionService, ledger: Ledger) -> Execution:
    execution_id = new_id()
    await insisting(lambda: submitted(service, "fault.again", ledger.at_once, execution_id))
    return await insisting(lambda: service.get_execution(execution_id))


async def submit_and_crash(service: ExecutionService, server: EmbeddedPostgres, ledger: Ledger) -> list[Execution]:
    halfway = asyncio.Event()
    clients = [asyncio.create_task(submit_on(service, ledger, halfway)) for _ in range(CLIENTS)]
    await halfway.wait()
    await server.restart("immediate")
    return [execution for batch in await asyncio.gather(*clients) for execution in batch]


async def test_nothing_acknowledged_is_lost_and_everybody_goes_on(own_server: EmbeddedPostgres, ledger: Ledger) -> None:
    settings = short_settings(own_server.url, handlers=FAULT_HANDLERS)
    async with open_service(settings) as service, running_worker(service):
        acknowledged = await submit_and_crash(service, own_server, ledger)
        for execution in acknowledged:
            assert (await ended_at_last(service, execution.id)).result is not None
        after = await insisting(lambda: service.create_execution("fault.once", ledger.at_once))
        assert (await ended_at_last(service, after.id)).result == {"attempt": 1}
    states = await check_all_ended(own_server.url)
    assert states["COMPLETED"] >= CLIENTS * EACH + 1


async def test_a_worker_in_another_process_goes_on_too(own_server: EmbeddedPostgres, ledger: Ledger) -> None:
    async with (
        worker_process(own_server.url) as worker,
        open_service(short_settings(own_server.url, handlers=FAULT_HANDLERS)) as service,
    ):
        held = await service.create_execution("fault.once", ledger.gated)
        await ledger.holds(1)
        await own_server.restart("immediate")
        ledger.open_gate()
        assert (await ended_at_last(service, held.id)).result == {"attempt": 1}
        later = await insisting(lambda: service.create_execution("fault.once", ledger.at_once))
        assert (await ended_at_last(service, later.id)).result == {"attempt": 1}
        assert worker.process.returncode is None
    assert ledger.runs() == {str(held.id): 1, str(later.id): 1}
    await check_all_ended(own_server.url)


async def test_a_watch_lasts_through_it(own_server: EmbeddedPostgres, ledger: Ledger) -> None:
    settings = short_settings(own_server.url, handlers=FAULT_HANDLERS)
    async with open_service(settings) as service, running_worker(service):
        execution = await service.create_execution("fault.once", ledger.gated)
        versions = asyncio.create_task(_versions(service, execution))
        await ledger.holds(1)
        await own_server.restart("immediate")
        ledger.open_gate()
        seen = await versions
    assert seen == list(range(1, len(seen) + 1))
    await check_all_ended(own_server.url)


async def _versions(service: ExecutionService, execution: Execution) -> list[int]:
    async with asyncio.timeout(30):
        return [item.version async for item in service.watch(execution.id)]
