"""Every hot statement can be prepared, and its plan is the one its comment names, however full the tables are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from execution.domain.state import ExecutionState
from execution.repository.connections import Connector
from execution.repository.database import Database
from execution.repository.listing import ExecutionFilters, What, listing_statement
from execution.repository.records import from_json
from execution.repository.statements import statement, statements
from tests.support.given import WORKER
from tests.support.stored import AnyConnection

PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

FINISHED = 50_000
WAITING = 1_000
SMALL_TENANT = 20
A_FINISHED_ONE = UUID(int=FINISHED // 2)

FILL = f"""
    INSERT INTO executions (
        id, tenant_id, kind, state, version, lease_epoch, attempt, rescues, priority, idempotent, pause_requested,
        parameters, progress_percentage, run_at, created_at, updated_at, completed_at, agent_id, task_id, parent_id
    )
    SELECT
        to_hex_uuid(n), CASE WHEN n <= {SMALL_TENANT} THEN 'small' ELSE 'default' END, 'noop', state, 5, 1, 1, 0, n % 3,
        false, false, '{{}}', 0, now() - interval '1 hour', now(), now(), CASE WHEN state <> 'PENDING' THEN now() END,
        'agent-' || n % 500, 'task-' || n % 500, to_hex_uuid(n % 500)
    FROM generate_series(1, {FINISHED + WAITING}) AS n
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n > {FINISHED} THEN 'PENDING' WHEN n % 5000 = 0 THEN 'FAILED' ELSE 'COMPLETED' END
    ) AS chosen (state);
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data)
    SELECT to_hex_uuid(n), version, 'agent.execution.state_changed', now(), 'default', '{{}}'
    FROM generate_series(1, {FINISHED}) AS n CROSS JOIN generate_series(1, 5) AS version;
    INSERT INTO workers (id, kinds, host, pid, concurrency, timeout_seconds)
    VALUES ('{WORKER}', '{{noop}}', 'here', 1, 1, 60);
    INSERT INTO idempotency_keys (tenant_id, key, fingerprint, command_id, lock_token, locked_until, created_at)
    SELECT 'default', 'key ' || n, sha256('this'), to_hex_uuid(n), to_hex_uuid(n), now(),
        now() - make_interval(mins => {FINISHED} - n)
    FROM generate_series(1, {FINISHED}) AS n;
    ANALYZE
"""
CLAIMED = 10_000
QUEUE = f"""
    INSERT INTO executions (
        id, tenant_id, kind, state, version, lease_epoch, attempt, rescues, priority, idempotent, pause_requested,
        parameters, progress_percentage, run_at, created_at, updated_at
    )
    SELECT to_hex_uuid(n), 'default', 'noop', 'PENDING', 1, 0, 1, 0, n % 3, false, false, '{{}}', 0,
        now() - make_interval(secs => {CLAIMED + WAITING} - n), now(), now()
    FROM generate_series(1, {CLAIMED + WAITING}) AS n;
    INSERT INTO workers (id, kinds, host, pid, concurrency, timeout_seconds)
    VALUES ('{WORKER}', '{{noop}}', 'here', 1, 1, 60);
    ANALYZE
"""
A_FEW_EVENTS = "SELECT execution_id, version + 1 AS next FROM execution_events ORDER BY xid DESC LIMIT 20"
SOME_MORE_EVENTS = f"""
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data)
    SELECT to_hex_uuid(n), 6, 'agent.execution.progress', now(), 'default', '{{}}'
    FROM generate_series(1, {SMALL_TENANT}) AS n
"""
UUID_OF_NUMBER = """
    CREATE FUNCTION to_hex_uuid(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN lpad(to_hex(n), 32, '0')::uuid
"""


@dataclass(frozen=True)
class Plan:
    """What PostgreSQL did for a statement."""

    nodes: list[dict[str, Any]]

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def scanned_tables(self) -> set[str]:
        """Tables read from end to end."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}

    @property
    def buffers(self) -> int:
        """Pages touched, in memory or not."""
        return int(self.nodes[0]["Shared Hit Blocks"] + self.nodes[0]["Shared Read Blocks"])

    @property
    def has_sort(self) -> bool:
        return any(node["Node Type"] == "Sort" for node in self.nodes)


@pytest.fixture
async def hot(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection with the hot path's planning settings, on an empty schema."""
    connector = Connector(database_url, connect_timeout=10, statement_timeout=10, application_name="plans")
    connection = await connector.connect()
    yield connection
    await connection.close()


@pytest.fixture
async def full(hot: asyncpg.Connection) -> asyncpg.Connection:
    """The same with tables as they are after a while."""
    await hot.execute(UUID_OF_NUMBER)
    await hot.execute(FILL)
    return hot


async def plan_of(connection: AnyConnection | PooledConnection, sql: str, *arguments: object) -> Plan:
    """The generic plan of a statement, run and rolled back. EXPLAIN shows it of an EXECUTE only."""
    literals = ", ".join("NULL" if one is None else f"'{one}'" for one in arguments)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"PREPARE looked_at AS {sql}")
    try:
        execute = f"EXECUTE looked_at ({literals})" if arguments else "EXECUTE looked_at"
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}")
    finally:
        await transaction.rollback()
        await connection.execute("DEALLOCATE looked_at")
    return Plan(list(_nodes(from_json(explained)[0]["Plan"])))


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(inner for child in node.get("Plans", []) for inner in _nodes(child))]


@pytest.mark.parametrize("name", statements())
async def test_each_statement_is_prepared(hot: asyncpg.Connection, name: str) -> None:
    prepared = await hot.prepare(statement(name))
    parameters = prepared.get_parameters()
    used = {int(number) for number in re.findall(r"\$(\d+)", statement(name))}
    assert used == set(range(1, len(parameters) + 1))


def test_each_statement_says_what_it_is_for() -> None:
    assert len(statements()) > 20
    assert all(sql and not sql.endswith(";") for sql in statements().values())


async def test_the_plans_of_full_tables(full: asyncpg.Connection, database_url: str) -> None:
    """All in one test: filling the tables takes longer than looking at every plan."""
    await check_claim(full)
    await check_waiting(full)
    await check_history(full)
    await check_deadlines(full)
    await check_reads(full)
    await check_idempotency_keys(full)
    await check_log(full, database_url)
    async with Database(database_url, notify=False) as database:
        await check_lists(database)


async def test_neither_a_claim_from_the_frontier_nor_its_wait_walks_over_what_was_claimed(
    hot: asyncpg.Connection, database_url: str
) -> None:
    """An old snapshot keeps PostgreSQL from cleaning up behind the claims."""
    await hot.execute(UUID_OF_NUMBER)
    await hot.execute(QUEUE)
    reader = await asyncpg.connect(database_url)
    async with reader.transaction(isolation="repeatable_read"):
        await reader.fetch("SELECT FROM workers")
        await hot.execute(f"UPDATE executions SET state = 'RUNNING' WHERE id <= to_hex_uuid({CLAIMED})")
        claim, arguments = statement("claim_executions"), ("{noop}", "{f}", WORKER, None, 10)
        from_the_head = await plan_of(hot, claim, *arguments, "{}", "{}", "{}")
        since = f"now() - interval '{WAITING} seconds'"
        known = "{noop,noop,noop}", "{0,1,2}", await hot.fetchval(f"SELECT array_fill({since}, '{{3}}')::text")
        onward = await plan_of(hot, claim, *arguments, *known)
        due, none = statement("next_run_at"), ("{}", "{}", "{}")
        due_from_the_head, due_onward = [await plan_of(hot, due, "{noop}", *levels) for levels in (none, known)]
    await reader.close()
    assert onward.indexes == from_the_head.indexes
    assert onward.buffers < 500
    assert from_the_head.buffers > onward.buffers + CLAIMED / 10, "nothing was in the way"
    assert due_onward.indexes == {"executions_claim"}
    assert due_onward.buffers < 60
    assert due_from_the_head.buffers > due_onward.buffers + CLAIMED / 10


async def check_claim(full: asyncpg.Connection) -> None:
    arguments = ("{noop,sleep}", "{f,f}", WORKER, None, 10, "{}", "{}", "{}")
    plan = await plan_of(full, statement("claim_executions"), *arguments)
    assert "executions_claim" in plan.indexes
    assert plan.scanned_tables == set()
    assert plan.buffers < 700, "a claim of ten must not depend on how many wait or have ended"


async def check_waiting(full: asyncpg.Connection) -> None:
    plan = await plan_of(full, statement("next_run_at"), "{noop,sleep}", "{}", "{}", "{}")
    assert plan.indexes == {"executions_claim"}
    assert plan.scanned_tables == set()
    assert plan.buffers < 60
    plan = await plan_of(full, statement("next_run_at_from"), "noop", 0, datetime.now(UTC) - timedelta(hours=1))
    assert plan.indexes == {"executions_claim"}
    assert plan.scanned_tables == set()
    assert plan.buffers < 20


async def check_history(full: asyncpg.Connection) -> None:
    for name, arguments in (
        ("read_history", (A_FINISHED_ONE, 0, 100)),
        ("read_state_history", (A_FINISHED_ONE, 10)),
        ("read_histories", (f"{{{A_FINISHED_ONE}}}", "{0}", 100)),
        ("look_up_appends", (f"{{{A_FINISHED_ONE}}}", "{1}")),
        ("read_command", (A_FINISHED_ONE, WORKER)),
        ("read_version_at", (A_FINISHED_ONE, "infinity")),
    ):
        plan = await plan_of(full, statement(name), *arguments)
        assert plan.indexes == {"execution_events_pkey"}, name
        assert plan.scanned_tables == set(), name
        assert not plan.has_sort, name
        assert plan.buffers < 12, name


async def check_deadlines(full: asyncpg.Connection) -> None:
    for name, arguments in (("find_overdue", (5.0, 10)), ("survey", (5.0,))):
        plan = await plan_of(full, statement(name), *arguments)
        assert "executions_deadline" in plan.indexes, name
        assert plan.scanned_tables <= {"workers"}, name
        assert plan.buffers < 12, name


async def check_reads(full: asyncpg.Connection) -> None:
    for name, arguments, index in (
        ("get_execution", (A_FINISHED_ONE,), "executions_pkey"),
        ("get_executions", (f"{{{A_FINISHED_ONE}}}",), "executions_pkey"),
        ("lock_executions", (f"{{{A_FINISHED_ONE}}}",), "executions_pkey"),
        ("read_command_in_many", (f"{{{A_FINISHED_ONE}}}", WORKER), "execution_events_pkey"),
        ("find_orphans", (10,), "executions_held"),
        ("held_by_worker", (WORKER,), "executions_held"),
        ("delete_execution", (A_FINISHED_ONE, 5), "executions_pkey"),
        ("find_api_key", ("exk_0123456789AB",), "api_keys_prefix"),
        ("note_api_key_uses", (f"{{{A_FINISHED_ONE}}}",), "api_keys_pkey"),
    ):
        plan = await plan_of(full, statement(name), *arguments)
        assert index in plan.indexes, name
        assert plan.scanned_tables <= {"workers", "relay_cursors"}, name
        assert plan.buffers < 60, name


async def check_idempotency_keys(full: asyncpg.Connection) -> None:
    fingerprint = await full.fetchval("SELECT array_agg(sha256('this'))::text FROM generate_series(1, 2)")
    tenants, names, ids = "{default,default}", "{key 7,new}", f"{{{A_FINISHED_ONE},{A_FINISHED_ONE}}}"
    one = ("default", "key 7", A_FINISHED_ONE)
    for name, arguments in (
        ("reserve_idempotency_keys", (tenants, names, fingerprint, ids, ids, "{30,30}", 86_400)),
        ("read_idempotency_key", ("default", "key 7", 86_400)),
        ("answer_idempotency_keys", (tenants, names, ids, "{200,200}", '{"{}","{}"}', "{a,b}", "{t,f}")),
        ("settle_idempotency_key", ("default", "key 7")),
        ("look_up_answer", one),
        ("release_idempotency_key", one),
        ("forget_idempotency_key", one),
        ("purge_idempotency_keys", (86_400, 10)),
    ):
        plan = await plan_of(full, statement(name), *arguments)
        assert plan.scanned_tables == set(), name
        assert not plan.has_sort, name
        assert plan.buffers < 120, f"{name}: {plan.buffers}"


async def check_log(full: asyncpg.Connection, database_url: str) -> None:
    """Also while transactions are under way, whose events may still come: each of them is looked for."""
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT pg_current_xact_id()")
        await full.execute("SELECT pg_current_xact_id()")
        before = await full.fetchval(statement("current_snapshot"))
        assert before.split(":")[2] != "", "nothing is under way"
        await full.execute(SOME_MORE_EVENTS)
        head = await full.fetchval(statement("current_snapshot"))
        plans = [
            await plan_of(full, statement("read_log"), before, head, None),
            await plan_of(full, statement("read_news"), before, SMALL_TENANT, None),
        ]
        cut = await plan_of(full, statement("read_news"), before, SMALL_TENANT - 1, None)
        await check_looking_ahead(full, before)
    await other.close()
    for plan in plans:
        assert plan.nodes[0]["Actual Rows"] == SMALL_TENANT
        assert plan.scanned_tables == set()
        assert plan.indexes == {"execution_events_xid", "executions_pkey"}
        assert plan.buffers < 200
    assert cut.nodes[0]["Actual Rows"] == 1, "what cannot be told is not read"
    assert cut.buffers < 60


async def check_looking_ahead(full: asyncpg.Connection, before: str) -> None:
    """How much is new is counted, and the cut of a bounded read checked, without reading what is not new."""
    plan = await plan_of(full, statement("look_ahead"), before, SMALL_TENANT - 1)
    assert plan.indexes == {"execution_events_xid"}
    assert plan.buffers < 60
    first = await full.fetch(A_FEW_EVENTS)
    of_these = [",".join(str(row[column]) for row in first) for column in ("execution_id", "next")]
    plan = await plan_of(
        full, statement("find_overtaken"), *(f"{{{one}}}" for one in of_these), before.split(":", maxsplit=1)[0]
    )
    assert plan.indexes == {"execution_events_pkey"}
    assert plan.scanned_tables == set()
    assert plan.buffers < 200


async def check_lists(database: Database) -> None:
    """A page deep in a list costs what the first one costs, and a small tenant does not pay for a large one."""
    for tenant_id, filters, index in (
        ("small", ExecutionFilters(), "executions_list"),
        ("default", ExecutionFilters(state=ExecutionState.FAILED), "executions_list_state"),
        ("default", ExecutionFilters(agent_id="agent-7"), "executions_list_agent"),
        ("default", ExecutionFilters(task_id="task-7"), "executions_list_task"),
        ("default", ExecutionFilters(), None),
        ("default", ExecutionFilters(state=ExecutionState.COMPLETED), None),
    ):
        values = {"tenant_id": tenant_id} | filters.given() | {"before_id": A_FINISHED_ONE, "limit": 10}
        sql, names = listing_statement(What.SHOWN, tuple(values))
        async with database.list_pool.acquire() as connection:
            plan = await plan_of(connection, sql, *(values[name] for name in names))
        # Where nearly every row matches, the primary key is as good as the tenant's index.
        assert plan.indexes == {index} or (index is None and plan.indexes <= {"executions_list", "executions_pkey"})
        assert plan.scanned_tables == set(), filters
        assert not plan.has_sort, filters
        assert plan.buffers < 60, filters
