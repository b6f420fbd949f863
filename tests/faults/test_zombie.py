"""A worker that is stopped past its timeout, declared dead, and wakes up again."""

from __future__ import annotations

import signal

from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.service import PATIENCE, ended
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

S = ExecutionState


async def living_ids(sql: AnyConnection, pid: int) -> set[object]:
    rows = await sql.fetch("SELECT id FROM workers WHERE pid = $1 AND dead_at IS NULL", pid)
    return {row["id"] for row in rows}


async def test_its_writes_are_refused_and_it_starts_over(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with worker_process(database_url) as zombie:
        once = await client.create_execution("fault.once", ledger.gated)
        again = await client.create_execution("fault.again", ledger.gated)
        await ledger.holds(2)
        (old_id,) = await living_ids(sql, zombie.pid)
        zombie.signal(signal.SIGSTOP)
        async with worker_process(database_url) as rescuer:
            failed = await ended(client, once.id)
            assert failed.error is not None
            assert failed.error["type"] == "outcome_unknown"
            ledger.open_gate()
            completed = await ended(client, again.id)
            assert completed.result == {"attempt": 2}
            rescuer.signal(signal.SIGTERM)
            assert await rescuer.ended() == 0
        # Its handlers find the gate open, and it writes what came of them before it can know that it was given up.
        zombie.signal(signal.SIGCONT)

        async def has_a_new_id() -> set[object]:
            return await living_ids(sql, zombie.pid) - {old_id}

        await eventually(has_a_new_id, within=PATIENCE, what="it registers under a new id")
        assert await client.get_execution(once.id) == failed
        assert await client.get_execution(again.id) == completed
        fresh = await client.create_execution("fault.once", ledger.at_once)
        after = await ended(client, fresh.id)
        assert after.state is S.COMPLETED
        zombie.signal(signal.SIGTERM)
        assert await zombie.ended() == 0
    assert ledger.runs() == {str(once.id): 1, str(again.id): 2, str(fresh.id): 1}
    assert await check_all_ended(database_url) == {"FAILED": 1, "COMPLETED": 2}
