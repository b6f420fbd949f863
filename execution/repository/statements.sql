-- The hot statements, by name. Each runs prepared, on a connection with `plan_cache_mode = force_generic_plan` and
-- `enable_seqscan = off` (a plan made while the tables were empty must not scan them when they are full).
--
-- Lock order: executions rows by id. Batches are sorted by id before they are sent, and the nested loop that a generic
-- plan uses visits them in that order, so two processes' batches cannot deadlock; a claim skips what is locked.

-- name: create_executions
-- Insert new executions with their first events. Executions whose id exists are left alone and not counted as written.
-- One that a worker starts at once (worker_id) has that worker's claim as its last event, and is left out if the worker was
-- declared dead, as `claim_executions` would; for the rest see there.
-- Index: executions_pkey, workers_pkey. Without ON CONFLICT one repeated id would fail the whole batch.
-- How a column's array may be shortened stands in `batches.py`: coalesce(t.x, ($n)[1]) reads one of a value that every
-- execution has, CASE cardinality(...) one of a value that may be null. `events` is an array of [type, data]; their
-- versions count up from 1, and the first one's submission holds the parameters. A time that every append has comes as its
-- seconds (`batches.py`), which are exact to the microsecond.
WITH item AS (
    SELECT
        id, to_timestamp(created_at) AS created_at, events,
        coalesce(tenant_id, ($4)[1]) AS tenant_id, coalesce(kind, ($5)[1]) AS kind, coalesce(state, ($6)[1]) AS state,
        coalesce(priority, ($7)[1]) AS priority, coalesce(idempotent, ($8)[1]) AS idempotent,
        coalesce(command_id, ($9)[1]) AS command_id,
        CASE cardinality($10) WHEN 1 THEN ($10)[1] ELSE actor END AS actor,
        CASE cardinality($11) WHEN 1 THEN ($11)[1] ELSE worker_id END AS worker_id,
        agent_id, task_id, parent_id, trace_context, retry_policy, schedule_to_start, start_to_close, deadline,
        coalesce(run_at, to_timestamp(created_at)) AS run_at
    FROM unnest(
        $1::uuid[], $2::float8[], $3::jsonb[],
        $4::text[], $5::text[], $6::text[], $7::smallint[], $8::boolean[], $9::uuid[], $10::text[], $11::uuid[],
        $12::text[], $13::text[], $14::uuid[], $15::text[], $16::jsonb[], $17::float8[], $18::float8[],
        $19::timestamptz[], $20::timestamptz[]
    ) AS t (
        id, created_at, events, tenant_id, kind, state, priority, idempotent, command_id, actor, worker_id,
        agent_id, task_id, parent_id, trace_context, retry_policy, schedule_to_start, start_to_close, deadline, run_at
    )
), live AS (
    SELECT id FROM workers WHERE id = ANY ($11) AND dead_at IS NULL
)
-- then: creation
SELECT array_agg(id) AS written FROM inserted HAVING count(*) < cardinality($1);

-- name: create_execution
-- The same of one execution, each of its columns as it is: arrays of one cost PostgreSQL and the driver a fifth of the whole.
WITH item AS (
    SELECT
        $1::uuid AS id, to_timestamp($2::float8) AS created_at, $3::jsonb AS events,
        $4::text AS tenant_id, $5::text AS kind, $6::text AS state, $7::smallint AS priority, $8::boolean AS idempotent,
        $9::uuid AS command_id, $10::text AS actor, $11::uuid AS worker_id,
        $12::text AS agent_id, $13::text AS task_id, $14::uuid AS parent_id, $15::text AS trace_context,
        $16::jsonb AS retry_policy, $17::float8 AS schedule_to_start, $18::float8 AS start_to_close,
        $19::timestamptz AS deadline, coalesce($20::timestamptz, to_timestamp($2)) AS run_at
), live AS (
    SELECT id FROM workers WHERE id = $11 AND dead_at IS NULL
)
-- then: creation
SELECT array_agg(id) AS written FROM inserted HAVING count(*) < 1;

-- part: creation
-- What both do with their items.
, inserted AS (
    INSERT INTO executions (
        id, tenant_id, kind, state, version, priority, agent_id, task_id, parent_id,
        trace_context, parameters, retry_policy, schedule_to_start, start_to_close, deadline, run_at,
        created_at, updated_at, lease_epoch, worker_id, started_at, idempotent, attempt, rescues, pause_requested,
        progress_percentage
    )
    SELECT
        id, tenant_id, kind, state, jsonb_array_length(events), priority, agent_id, task_id, parent_id,
        trace_context, events #> '{0,1,submission,parameters}', retry_policy, schedule_to_start, start_to_close,
        deadline, run_at, created_at, created_at, (worker_id IS NOT NULL)::int, worker_id,
        CASE WHEN worker_id IS NOT NULL THEN created_at END, idempotent, 1, 0, false, 0
    FROM item
    WHERE worker_id IS NULL OR worker_id IN (SELECT live.id FROM live)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), logged AS (
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
    SELECT
        id, number, events -> (number - 1) ->> 0, created_at, tenant_id,
        CASE WHEN worker_id IS NOT NULL AND number = jsonb_array_length(events) THEN 'worker:' || worker_id ELSE actor END,
        command_id, events -> (number - 1) -> 1
    FROM (
        SELECT item.*, generate_series(1, jsonb_array_length(item.events)) AS number FROM inserted JOIN item USING (id)
    ) AS event
);

-- name: append_events
-- Append events to existing executions and move their rows to the state after them, where the row still has the version
-- the decision was made on and, for a worker's write, the lease epoch of its claim (-1: not a worker's write).
-- Answers nothing when all were written, otherwise the ids of those that were.
-- Index: executions_pkey. Without the version guard two decisions on one state would both stand; without the epoch guard
-- a worker that was declared dead could re-read the version and write on. `events` as above, from expected_version + 1
-- on; a result stands in the `completed` event, which is the last one of an end. run_at null or keeps_start: as it was.
WITH item AS (
    SELECT
        id, to_timestamp(updated_at) AS updated_at, events,
        coalesce(expected_version, ($4)[1]) AS expected_version, coalesce(expected_epoch, ($5)[1]) AS expected_epoch,
        coalesce(state, ($6)[1]) AS state, coalesce(has_ended, ($7)[1]) AS has_ended,
        coalesce(lease_epoch, ($8)[1]) AS lease_epoch, coalesce(attempt, ($9)[1]) AS attempt,
        coalesce(rescues, ($10)[1]) AS rescues, coalesce(idempotent, ($11)[1]) AS idempotent,
        coalesce(pause_requested, ($12)[1]) AS pause_requested,
        coalesce(progress_percentage, ($13)[1]) AS progress_percentage,
        coalesce(keeps_start, ($14)[1]) AS keeps_start, coalesce(command_id, ($15)[1]) AS command_id,
        CASE cardinality($16) WHEN 1 THEN ($16)[1] ELSE actor END AS actor,
        CASE cardinality($17) WHEN 1 THEN ($17)[1] ELSE worker_id END AS worker_id,
        CASE cardinality($18) WHEN 1 THEN ($18)[1] ELSE progress_message END AS progress_message,
        progress_context, error, deadline, run_at, started_at
    FROM unnest(
        $1::uuid[], $2::float8[], $3::jsonb[],
        $4::int[], $5::int[], $6::text[], $7::boolean[], $8::int[], $9::int[], $10::int[], $11::boolean[],
        $12::boolean[], $13::float8[], $14::boolean[], $15::uuid[], $16::text[], $17::uuid[], $18::text[],
        $19::jsonb[], $20::jsonb[], $21::timestamptz[], $22::timestamptz[], $23::timestamptz[]
    ) AS t (
        id, updated_at, events, expected_version, expected_epoch, state, has_ended, lease_epoch, attempt, rescues,
        idempotent, pause_requested, progress_percentage, keeps_start, command_id, actor, worker_id, progress_message,
        progress_context, error, deadline, run_at, started_at
    )
)
-- then: change
SELECT array_agg(id) AS written FROM updated HAVING count(*) < cardinality($1);

-- name: append_to_execution
-- The same of one execution, as `create_execution`.
WITH item AS (
    SELECT
        $1::uuid AS id, to_timestamp($2::float8) AS updated_at, $3::jsonb AS events,
        $4::int AS expected_version, $5::int AS expected_epoch, $6::text AS state, $7::boolean AS has_ended,
        $8::int AS lease_epoch, $9::int AS attempt, $10::int AS rescues, $11::boolean AS idempotent,
        $12::boolean AS pause_requested, $13::float8 AS progress_percentage, $14::boolean AS keeps_start,
        $15::uuid AS command_id, $16::text AS actor, $17::uuid AS worker_id, $18::text AS progress_message,
        $19::jsonb AS progress_context, $20::jsonb AS error, $21::timestamptz AS deadline, $22::timestamptz AS run_at,
        $23::timestamptz AS started_at
)
-- then: change
SELECT array_agg(id) AS written FROM updated HAVING count(*) < 1;

-- part: change
-- What both do with their items.
, updated AS (
    UPDATE executions AS e SET
        state = item.state, version = item.expected_version + jsonb_array_length(item.events),
        lease_epoch = item.lease_epoch, worker_id = item.worker_id, attempt = item.attempt, rescues = item.rescues,
        idempotent = item.idempotent, pause_requested = item.pause_requested,
        result = CASE WHEN item.has_ended THEN nullif(item.events #> '{-1,1,result}', 'null') END, error = item.error,
        progress_percentage = item.progress_percentage, progress_message = item.progress_message,
        progress_context = item.progress_context, deadline = item.deadline, run_at = coalesce(item.run_at, e.run_at),
        started_at = CASE WHEN item.keeps_start THEN e.started_at ELSE item.started_at END,
        updated_at = item.updated_at, completed_at = CASE WHEN item.has_ended THEN item.updated_at END
    FROM item
    WHERE e.id = item.id
      AND e.version = item.expected_version
      AND item.expected_epoch IN (-1, e.lease_epoch)
    RETURNING e.id, e.tenant_id, e.updated_at, item.expected_version, item.command_id, item.actor, item.events
), logged AS (
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
    SELECT
        id, expected_version + number, events -> (number - 1) ->> 0, updated_at, tenant_id, actor, command_id,
        events -> (number - 1) -> 1
    FROM (SELECT updated.*, generate_series(1, jsonb_array_length(updated.events)) AS number FROM updated) AS event
);

-- name: look_up_appends
-- Which command wrote these versions, and when: how an append whose answer was lost learns whether it was applied. The
-- time tells it from another sending of the same caller's command. Index: execution_events_pkey.
SELECT event.execution_id, event.command_id, event.occurred_at
FROM unnest($1::uuid[], $2::int[]) AS wanted (execution_id, version)
JOIN execution_events AS event USING (execution_id, version);

-- name: read_command
-- The versions that a command wrote in one execution, in order. Index: execution_events_pkey. It reads the execution's
-- whole log, and only for commands that carry an id: an index on command_id would be paid for by every event.
SELECT version FROM execution_events WHERE execution_id = $1 AND command_id = $2 ORDER BY version;

-- name: read_command_in_many
-- The last version that a command wrote in each of some executions. Index: execution_events_pkey, as above.
SELECT log.execution_id, log.version FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT e.execution_id, e.version FROM execution_events AS e WHERE e.execution_id = wanted.id AND e.command_id = $2
    ORDER BY e.version DESC LIMIT 1
) AS log;

-- name: read_version_at
-- The version that one execution had at a time; times never fall from one version to the next. Index:
-- execution_events_pkey, backwards.
SELECT version FROM execution_events WHERE execution_id = $1 AND occurred_at <= $2 ORDER BY version DESC LIMIT 1;

-- name: claim_executions
-- Claim up to $5 due executions of these kinds for a live worker: priority, then run_at, then age. Appends the RUNNING
-- event and raises the lease epoch in the same statement. $2: which kinds are idempotent, in the order of $1.
-- Index: executions_claim. `level` walks the distinct priorities of each kind by index, because a range over run_at is
-- only a range within one (kind, priority): without it, executions scheduled for later are scanned by every claim.
-- $6 to $8: levels (kind, priority) that begin at a time instead of at their head, which may lie behind many dead entries
-- (frontier.py); `gap` is what lies between them, so that the walk finds every other level without touching these.
-- The update goes by an array, not by a join: for a join, the generic plan expects thousands of rows and hashes the table.
-- Of the columns that every claimed execution has alike, none is returned. A worker that was declared dead gets nothing.
-- A claim that commits while its worker is being buried is rescued like the rest of what it holds, because the row of a dead
-- worker stays until it has long held nothing.
WITH RECURSIVE kind AS (
    SELECT * FROM unnest($1::text[], $2::boolean[]) AS t (name, idempotent)
), known AS (
    SELECT * FROM unnest($6::text[], $7::smallint[], $8::timestamptz[]) AS t (name, priority, since)
), gap AS (
    SELECT name, priority AS above, lead(priority, 1, '-32768') OVER (PARTITION BY name ORDER BY priority DESC) AS below
    FROM (SELECT name, '32767'::smallint AS priority FROM kind UNION ALL SELECT name, priority FROM known) AS bound
), level AS (
    SELECT gap.name, gap.below, (
        SELECT e.priority FROM executions AS e
        WHERE e.kind = gap.name AND e.state = 'PENDING' AND e.priority < gap.above AND e.priority > gap.below
        ORDER BY e.priority DESC LIMIT 1
    ) AS priority
    FROM gap
    UNION ALL
    SELECT level.name, level.below, (
        SELECT e.priority FROM executions AS e
        WHERE e.kind = level.name AND e.state = 'PENDING' AND e.priority < level.priority AND e.priority > level.below
        ORDER BY e.priority DESC LIMIT 1
    )
    FROM level WHERE level.priority IS NOT NULL
), start AS (
    SELECT name, priority, '-infinity'::timestamptz AS since FROM level WHERE priority IS NOT NULL
    UNION ALL
    SELECT name, priority, since FROM known
), due AS (
    SELECT candidate.id
    FROM start CROSS JOIN LATERAL (
        SELECT e.id, e.priority, e.run_at FROM executions AS e
        WHERE e.kind = start.name AND e.priority = start.priority AND e.state = 'PENDING'
          AND e.run_at >= start.since AND e.run_at <= statement_timestamp()
        ORDER BY e.run_at, e.id LIMIT $5
        FOR UPDATE SKIP LOCKED
    ) AS candidate
    WHERE EXISTS (SELECT FROM workers WHERE id = $3 AND dead_at IS NULL)
    ORDER BY candidate.priority DESC, candidate.run_at, candidate.id LIMIT $5
)
-- then: claim

-- name: claim_execution
-- Claim one execution, of which somebody has said that it waits, for a live worker, unless somebody else has it or is about
-- to. It searches nothing, so it is for a worker that has room for everything that waits. $1: as an object, every kind that the
-- worker runs and whether it is idempotent; one text costs the driver less than two arrays. Index: executions_pkey.
WITH kind AS (
    SELECT key AS name, value::boolean AS idempotent FROM jsonb_each($1::jsonb)
), due AS (
    SELECT e.id FROM executions AS e
    WHERE e.id = $2::uuid AND e.state = 'PENDING' AND e.run_at <= statement_timestamp() AND $1::jsonb ? e.kind
      AND EXISTS (SELECT FROM workers WHERE id = $3 AND dead_at IS NULL)
    FOR UPDATE SKIP LOCKED
)
-- then: claim

-- part: claim
-- What both do with what is due.
, claimed AS (
    UPDATE executions AS e SET
        state = 'RUNNING', version = e.version + 1, lease_epoch = e.lease_epoch + 1, worker_id = $3,
        idempotent = (SELECT kind.idempotent FROM kind WHERE kind.name = e.kind), error = NULL,
        started_at = greatest(statement_timestamp(), e.updated_at), updated_at = greatest(statement_timestamp(), e.updated_at),
        deadline = greatest(statement_timestamp(), e.updated_at) + make_interval(secs => e.start_to_close)
    WHERE e.id = ANY (ARRAY(SELECT due.id FROM due))
    RETURNING e.*
), logged AS (
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, data)
    SELECT id, version, 'agent.execution.state_changed', started_at, tenant_id, $4,
        jsonb_build_object(
            'previous_state', 'PENDING', 'new_state', 'RUNNING', 'reason', NULL, 'worker_id', worker_id,
            'lease_epoch', lease_epoch, 'idempotent', idempotent
        ) || CASE WHEN deadline IS NULL THEN '{}' ELSE jsonb_build_object('deadline', deadline) END
    FROM claimed
)
SELECT
    id, tenant_id, kind, version, lease_epoch, attempt, rescues, priority, agent_id, task_id, parent_id, trace_context,
    parameters, progress_percentage, progress_message, progress_context, retry_policy, schedule_to_start,
    start_to_close, deadline, run_at, created_at, started_at
FROM claimed ORDER BY priority DESC, run_at, id;

-- name: next_run_at
-- The waiting execution of these kinds that is due first, and in how many seconds. $2 to $4: levels that begin at a time, as
-- $6 to $8 of a claim, and for its reason: an idle worker asks with every poll. Index: executions_claim, as above.
WITH RECURSIVE known AS (
    SELECT * FROM unnest($2::text[], $3::smallint[], $4::timestamptz[]) AS t (name, priority, since)
), gap AS (
    SELECT name, priority AS above, lead(priority, 1, '-32768') OVER (PARTITION BY name ORDER BY priority DESC) AS below
    FROM (
        SELECT name, '32767'::smallint AS priority FROM unnest($1::text[]) AS kind (name)
        UNION ALL SELECT name, priority FROM known
    ) AS bound
), level AS (
    SELECT gap.name, gap.below, (
        SELECT e.priority FROM executions AS e
        WHERE e.kind = gap.name AND e.state = 'PENDING' AND e.priority < gap.above AND e.priority > gap.below
        ORDER BY e.priority DESC LIMIT 1
    ) AS priority
    FROM gap
    UNION ALL
    SELECT level.name, level.below, (
        SELECT e.priority FROM executions AS e
        WHERE e.kind = level.name AND e.state = 'PENDING' AND e.priority < level.priority AND e.priority > level.below
        ORDER BY e.priority DESC LIMIT 1
    )
    FROM level WHERE level.priority IS NOT NULL
), start AS (
    SELECT name, priority, '-infinity'::timestamptz AS since FROM level WHERE priority IS NOT NULL
    UNION ALL
    SELECT name, priority, since FROM known
)
SELECT extract(epoch FROM soonest.run_at - clock_timestamp())::float8 AS seconds, start.priority, soonest.run_at
FROM start CROSS JOIN LATERAL (
    SELECT e.run_at FROM executions AS e
    WHERE e.kind = start.name AND e.priority = start.priority AND e.state = 'PENDING' AND e.run_at >= start.since
    ORDER BY e.run_at LIMIT 1
) AS soonest
ORDER BY soonest.run_at LIMIT 1;

-- name: next_run_at_from
-- The same of one kind and one priority, not due before $3: where the first one was, so that the dead entries of what was
-- claimed since are all there is to walk over. Index: executions_claim.
SELECT extract(epoch FROM run_at - clock_timestamp())::float8 AS seconds, priority, run_at FROM executions
WHERE kind = $1 AND priority = $2 AND state = 'PENDING' AND run_at >= $3 ORDER BY run_at LIMIT 1;

-- name: get_execution
-- Index: executions_pkey.
SELECT * FROM executions WHERE id = $1;

-- name: get_stored_execution
-- What clients are shown of one, in the order of `stored.py`. Index: executions_pkey.
SELECT
    id, kind, state, version, agent_id, task_id, progress_percentage, progress_message, error, priority, attempt, run_at,
    created_at, started_at, updated_at, completed_at, parameters, result, progress_context
FROM executions WHERE id = $1 AND tenant_id = $2;

-- name: get_executions
-- The rows of these ids, for a worker that looks whether it still holds what it runs. Index: executions_pkey.
SELECT * FROM executions WHERE id = ANY($1::uuid[]);

-- name: lock_executions
-- The rows of these ids, which nobody changes until the transaction ends. Index: executions_pkey. Sorted before they are
-- locked: lock order.
SELECT * FROM executions WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE;

-- name: get_ended
-- Those of these ids that have ended, for all who wait in one process. Index: executions_pkey.
SELECT * FROM executions WHERE id = ANY($1::uuid[]) AND completed_at IS NOT NULL;

-- name: read_history
-- One execution's events after a version, in order. Index: execution_events_pkey.
SELECT execution_id, version, type, occurred_at, actor, data FROM execution_events
WHERE execution_id = $1 AND version > $2 ORDER BY version LIMIT $3;

-- name: read_state_history
-- One execution's latest changes of state, newest first. Index: execution_events_pkey, backwards.
SELECT execution_id, version, type, occurred_at, actor, data FROM execution_events
WHERE execution_id = $1 AND type = 'agent.execution.state_changed' ORDER BY version DESC LIMIT $2;

-- name: read_histories
-- What is new in several executions: one query for every watcher of a process. Index: execution_events_pkey.
SELECT event.execution_id, event.version, event.type, event.occurred_at, event.actor, event.data
FROM unnest($1::uuid[], $2::int[]) AS watched (execution_id, after_version)
CROSS JOIN LATERAL (
    SELECT * FROM execution_events AS e
    WHERE e.execution_id = watched.execution_id AND e.version > watched.after_version
    ORDER BY e.version LIMIT $3
) AS event;

-- name: read_log
-- Events that are visible in the snapshot $2 and were not in $1, with what a message needs of their execution. No event is
-- missed: whatever $1 did not see was in progress ($1's xip) or not begun ($1's xmax). Index: execution_events_xid.
-- $3: of this tenant only; null: of all. Without the bound at $2's xmax, a reader who is far behind would scan to the head.
-- By an array and with LIMIT 1, not by joins: for a join, the generic plan reads the whole index, or hashes all executions.
-- The snapshot in a query of its own: as it stands it would be read from its text once for each row.
WITH fresh AS (
    SELECT e.* FROM execution_events AS e
    WHERE e.xid >= pg_snapshot_xmax($1::text::pg_snapshot) AND e.xid < pg_snapshot_xmax($2::text::pg_snapshot)
    UNION ALL
    SELECT e.* FROM execution_events AS e WHERE e.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
)
SELECT event.execution_id, event.version, event.type, event.occurred_at, event.tenant_id, event.actor, event.data,
    execution.kind, execution.agent_id, execution.task_id, execution.trace_context
FROM fresh AS event
LEFT JOIN LATERAL (
    SELECT e.kind, e.agent_id, e.task_id, e.trace_context FROM executions AS e WHERE e.id = event.execution_id LIMIT 1
) AS execution ON true
WHERE pg_visible_in_snapshot(event.xid, (SELECT $2::text::pg_snapshot)) AND ($3::text IS NULL OR event.tenant_id = $3)
ORDER BY event.execution_id, event.version;

-- name: read_news
-- What look_ahead tells of $1 and $2, and, if there are no more than $2, in the same round trip what read_log tells between
-- $1 and now, to the tenant $3: events that are visible to this very statement. Always a row; without an event, all but the
-- last two columns are null. Index: execution_events_xid.
WITH ahead AS MATERIALIZED (
    SELECT pg_current_snapshot()::text AS snapshot, (
        SELECT e.xid FROM execution_events AS e WHERE e.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        ORDER BY e.xid OFFSET $2::bigint LIMIT 1
    )::text::bigint AS bound
), fresh AS (
    SELECT e.* FROM execution_events AS e
    WHERE e.xid >= pg_snapshot_xmax($1::text::pg_snapshot) AND (SELECT bound FROM ahead) IS NULL
    UNION ALL
    SELECT e.* FROM execution_events AS e
    WHERE e.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))) AND (SELECT bound FROM ahead) IS NULL
)
SELECT event.execution_id, event.version, event.type, event.occurred_at, event.tenant_id, event.actor, event.data,
    execution.kind, execution.agent_id, execution.task_id, execution.trace_context, ahead.snapshot, ahead.bound
FROM ahead
LEFT JOIN fresh AS event ON $3::text IS NULL OR event.tenant_id = $3
LEFT JOIN LATERAL (
    SELECT e.kind, e.agent_id, e.task_id, e.trace_context FROM executions AS e WHERE e.id = event.execution_id LIMIT 1
) AS execution ON true
ORDER BY event.execution_id, event.version;

-- name: look_ahead
-- The transaction of the event that has $2 others before it among those whose transactions began after the snapshot $1
-- (null: there are no more than $2). Index: execution_events_xid.
SELECT (
    SELECT e.xid FROM execution_events AS e WHERE e.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
    ORDER BY e.xid OFFSET $2::bigint LIMIT 1
)::text::bigint AS bound;

-- name: find_overtaken
-- Of these events, the latest transaction after $3 that wrote the predecessor of one: a cut at $3 would tell the event before
-- its predecessor. Null nearly always. Index: execution_events_pkey.
SELECT max(predecessor.xid)::text::bigint AS xid
FROM unnest($1::uuid[], $2::int[]) AS event (execution_id, version)
CROSS JOIN LATERAL (
    SELECT e.xid FROM execution_events AS e
    WHERE e.execution_id = event.execution_id AND e.version = event.version - 1 LIMIT 1
) AS predecessor
WHERE predecessor.xid > $3::text::xid8;

-- name: current_snapshot
-- The position to read the log from next time.
SELECT pg_current_snapshot()::text AS snapshot;

-- name: take_relay_cursor
-- Take the lease of a cursor that nobody holds, for $3 seconds, and raise its epoch; no row: somebody holds it. A cursor that
-- is not there begins at $4, or at what is visible now (null). All times are the database's. Index: relay_cursors_pkey.
INSERT INTO relay_cursors AS c (name, position, owner, epoch, expires_at, updated_at)
VALUES (
    $1, coalesce($4::text, pg_current_snapshot()::text), $2, 1, clock_timestamp() + make_interval(secs => $3),
    clock_timestamp()
)
ON CONFLICT (name) DO UPDATE SET
    owner = excluded.owner, epoch = c.epoch + 1, expires_at = excluded.expires_at
WHERE c.expires_at <= clock_timestamp()
RETURNING position, epoch;

-- name: advance_relay_cursor
-- Move the cursor on and keep the lease; no row: somebody else has taken it, at a higher epoch, and only that one may move
-- it now. A lease that has run out and that nobody took is still its holder's. Index: relay_cursors_pkey.
-- The commit does not wait for the disk: what a crash of the server takes back, is published again.
UPDATE relay_cursors SET
    updated_at = CASE WHEN position = $3 THEN updated_at ELSE clock_timestamp() END, position = $3,
    expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE name = $1 AND epoch = $2 AND set_config('synchronous_commit', 'off', true) = 'off' RETURNING epoch;

-- name: release_relay_cursor
-- Move the cursor on a last time, and give the lease back. Index: relay_cursors_pkey.
UPDATE relay_cursors SET
    updated_at = CASE WHEN position = $3 THEN updated_at ELSE clock_timestamp() END, position = $3,
    expires_at = clock_timestamp()
WHERE name = $1 AND epoch = $2;

-- name: read_relay_cursor
-- Index: relay_cursors_pkey.
SELECT position, owner, epoch, expires_at > clock_timestamp() AS is_held FROM relay_cursors WHERE name = $1;

-- name: measure_relay_lag
-- How many events are not in the snapshot $1, counted to $2, and the age of the oldest of those it counted, in seconds.
-- Index: execution_events_xid.
WITH fresh AS (
    SELECT e.occurred_at FROM execution_events AS e WHERE e.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
    UNION ALL
    (
        SELECT e.occurred_at FROM execution_events AS e WHERE e.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        ORDER BY e.xid LIMIT $2::bigint
    )
)
SELECT count(*) AS events, greatest(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8 AS seconds FROM fresh;

-- name: find_barrier
-- Who holds the barrier back: the oldest transaction under way that has an id, in any database of the server, as a session
-- or as a prepared transaction. No row: nobody, or nobody whom this role may see (pg_read_all_stats).
SELECT * FROM (
    SELECT
        pid::text AS holder, coalesce(datname, '') AS database, coalesce(application_name, '') AS application,
        extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT gid, database, 'prepared transaction', extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
) AS open ORDER BY seconds DESC LIMIT 1;

-- name: register_worker
INSERT INTO workers (id, kinds, host, pid, concurrency, timeout_seconds) VALUES ($1, $2, $3, $4, $5, $6);

-- name: heartbeat
-- Still here, says the worker; no row means that it was declared dead. Index: workers_pkey.
UPDATE workers SET heartbeat_at = clock_timestamp() WHERE id = $1 AND dead_at IS NULL RETURNING clock_timestamp();

-- name: held_by_worker
-- What one worker holds. Index: executions_held.
SELECT * FROM executions WHERE worker_id = $1;

-- name: survey
-- What there is to rescue, in one cheap query, because every worker process asks it again and again.
SELECT
    EXISTS (
        SELECT FROM workers
        WHERE dead_at IS NULL AND heartbeat_at < clock_timestamp() - make_interval(secs => timeout_seconds)
    ) AS silent_workers,
    EXISTS (SELECT FROM workers WHERE dead_at IS NOT NULL) AS dead_workers,
    (
        SELECT extract(epoch FROM min(
            soonest.deadline + CASE soonest.state WHEN 'RUNNING' THEN make_interval(secs => $1) ELSE '0' END
        ) - clock_timestamp())::float8
        FROM (SELECT deadline, state FROM executions WHERE deadline IS NOT NULL ORDER BY deadline LIMIT 100) AS soonest
    ) AS seconds_until_deadline;

-- name: bury_workers
-- Declare workers dead whose last heartbeat is older than they promised. FOR UPDATE waits for their running claims.
UPDATE workers SET dead_at = clock_timestamp() WHERE id IN (
    SELECT id FROM workers
    WHERE dead_at IS NULL AND heartbeat_at < clock_timestamp() - make_interval(secs => timeout_seconds)
    ORDER BY id FOR UPDATE SKIP LOCKED
) RETURNING id;

-- name: bury_worker
-- Declare one worker dead at once: it says so itself when it stops, whether or not it could finish everything.
UPDATE workers SET dead_at = clock_timestamp() WHERE id = $1 AND dead_at IS NULL;

-- name: find_orphans
-- What dead workers hold. Index: executions_held.
SELECT e.* FROM workers AS w JOIN executions AS e ON e.worker_id = w.id
WHERE w.dead_at IS NOT NULL ORDER BY e.id LIMIT $1;

-- name: forget_dead_workers
-- Dead workers are kept a while for people who look; never while something of theirs is not rescued.
DELETE FROM workers AS w WHERE w.dead_at < clock_timestamp() - make_interval(secs => $1)
AND NOT EXISTS (SELECT FROM executions AS e WHERE e.worker_id = w.id);

-- name: find_overdue
-- Executions whose deadline has passed; a RUNNING one's worker has $1 seconds to enforce it itself.
-- Index: executions_deadline.
SELECT * FROM executions
WHERE deadline <= clock_timestamp() AND (state <> 'RUNNING' OR deadline <= clock_timestamp() - make_interval(secs => $1))
ORDER BY deadline LIMIT $2;

-- name: offered_kinds
-- What the live workers can run.
SELECT DISTINCT unnest(kinds) AS kind FROM workers
WHERE dead_at IS NULL AND heartbeat_at >= clock_timestamp() - make_interval(secs => timeout_seconds);

-- name: queue_depth
-- How much waits and runs, for metrics: each is counted up to $1. Indexes: executions_claim, executions_held.
WITH pending AS (
    SELECT run_at <= statement_timestamp() AS due FROM executions WHERE state = 'PENDING' LIMIT $1
), held AS (
    SELECT state FROM executions WHERE worker_id IS NOT NULL LIMIT $1
)
SELECT 'waiting' AS what, count(*) AS executions FROM pending WHERE due
UNION ALL SELECT 'scheduled', count(*) FROM pending WHERE NOT due
UNION ALL SELECT state, count(*) FROM held GROUP BY state;

-- name: delete_execution
-- A terminal execution and its history, unless a relay's cursor has not passed all of it (`behind`). A cursor is behind what
-- the brokers have acknowledged, so what it has passed is never read for publishing again: neither by a relay that has read
-- it already, nor by one that takes over. The cursor's commit comes before this one, so a crash cannot take back only that.
-- The lock keeps a retry from slipping in between: at version $2 no event is missing here. Index: both primary keys.
WITH behind AS MATERIALIZED (
    SELECT c.name FROM executions AS wanted, relay_cursors AS c
    WHERE wanted.id = $1 AND wanted.version = $2 AND wanted.completed_at IS NOT NULL AND EXISTS (
        SELECT FROM execution_events AS e
        WHERE e.execution_id = wanted.id AND NOT pg_visible_in_snapshot(e.xid, c.position::pg_snapshot)
    )
), gone AS (
    DELETE FROM executions
    WHERE id = $1 AND version = $2 AND completed_at IS NOT NULL AND NOT EXISTS (SELECT FROM behind) RETURNING id
), forgotten AS (
    DELETE FROM execution_events USING gone WHERE execution_id = gone.id
)
SELECT EXISTS (SELECT FROM gone) AS is_gone, ARRAY(SELECT name FROM behind) AS behind;

-- name: find_api_key
-- The key with a public part, accepted or not. Index: api_keys_prefix.
SELECT * FROM api_keys WHERE prefix = $1;

-- name: any_api_key
-- Has there ever been a key? A revoked one counts: revoking the last one must not open the door.
SELECT EXISTS (SELECT FROM api_keys) AS found;

-- name: note_api_key_uses
-- Coarse, so that a busy key in many processes is one small write a minute. Index: api_keys_pkey.
UPDATE api_keys SET last_used_at = clock_timestamp()
WHERE id = ANY($1::uuid[]) AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute');
-- name: reserve_idempotency_keys
-- Reserve keys for those who are to carry out the requests under them; answers those that were free. Free is a key that
-- is new, or expired ($7 seconds after its first use), or whose holder's time has passed without an answer; then the
-- command id of that holder stays. The same lock token again is the same call again, whose answer was lost.
-- Index: idempotency_keys_pkey. Lock order: by tenant and key, as the batch is sorted; nothing else is locked with them.
-- No commit waits for the disk: whatever is done under the key is committed later, and takes this commit along with it.
-- Times of holders are looked at after a wait for the row, hence by clock_timestamp().
INSERT INTO idempotency_keys AS k (tenant_id, key, fingerprint, command_id, lock_token, locked_until)
SELECT tenant_id, key, fingerprint, command_id, lock_token, clock_timestamp() + make_interval(secs => seconds)
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::uuid[], $6::float8[])
    AS t (tenant_id, key, fingerprint, command_id, lock_token, seconds)
WHERE set_config('synchronous_commit', 'off', true) = 'off'
ON CONFLICT (tenant_id, key) DO UPDATE SET
    fingerprint = excluded.fingerprint, lock_token = excluded.lock_token, locked_until = excluded.locked_until,
    command_id = CASE
        WHEN k.created_at <= statement_timestamp() - make_interval(secs => $7) THEN excluded.command_id ELSE k.command_id
    END,
    created_at = CASE
        WHEN k.created_at <= statement_timestamp() - make_interval(secs => $7) THEN excluded.created_at ELSE k.created_at
    END,
    answered_at = NULL, status = NULL, headers = NULL, body = NULL
WHERE k.lock_token = excluded.lock_token
   OR (
       k.locked_until <= clock_timestamp()
       AND (
           k.created_at <= statement_timestamp() - make_interval(secs => $7)
           OR (k.answered_at IS NULL AND k.fingerprint = excluded.fingerprint)
       )
   )
RETURNING k.lock_token, k.command_id;

-- name: read_idempotency_key
-- A key as it is, for who could not reserve it. Index: idempotency_keys_pkey.
SELECT
    fingerprint, status, headers, body,
    extract(epoch FROM locked_until - clock_timestamp())::float8 AS locked_seconds,
    coalesce(answered_at < locked_until, false) AS is_provisional,
    created_at <= clock_timestamp() - make_interval(secs => $3) AS is_expired
FROM idempotency_keys WHERE tenant_id = $1 AND key = $2;

-- name: answer_idempotency_keys
-- Keep the answers of those who still hold their keys; answers the lock tokens of these. Index: idempotency_keys_pkey.
-- A lane sends it in the transaction of the appends that the answers tell of; what has no effect is kept for itself.
-- Lock order: as above, and after executions. Without the lock token, a holder whose time had passed could overwrite what its successor does.
-- A provisional answer leaves the lock as it is, and stays so (answered_at < locked_until) until its holder puts another one
-- in its place or somebody is given it (settle_idempotency_key), whichever is first. An answer that may have been given is
-- replaced by nothing but itself, whose first commit may not have been heard of. Both times are one, hence not clock_timestamp().
UPDATE idempotency_keys AS k SET
    answered_at = statement_timestamp(),
    locked_until = CASE WHEN t.is_provisional THEN k.locked_until ELSE statement_timestamp() END,
    status = t.status, headers = t.headers, body = t.body
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::jsonb[], $6::bytea[], $7::boolean[])
    AS t (tenant_id, key, lock_token, status, headers, body, is_provisional)
WHERE k.tenant_id = t.tenant_id AND k.key = t.key AND k.lock_token = t.lock_token
  AND (
      k.answered_at IS NULL OR k.answered_at < k.locked_until
      OR (k.status = t.status AND k.headers = t.headers AND k.body = t.body)
  )
RETURNING k.lock_token;

-- name: look_up_answer
-- Has the holder's answer been committed? The lock waits for the end of a transaction whose COMMIT was sent and not heard of.
-- Index: idempotency_keys_pkey.
SELECT answered_at IS NOT NULL AS is_answered FROM idempotency_keys
WHERE tenant_id = $1 AND key = $2 AND lock_token = $3 FOR UPDATE;

-- name: settle_idempotency_key
-- Make a provisional answer the answer, once its holder's time has passed; no row: it is not there any more. Whoever is
-- given it has settled it first: the row's lock decides between that and the holder's own last word, the clock does not.
-- Index: idempotency_keys_pkey.
UPDATE idempotency_keys SET locked_until = answered_at
WHERE tenant_id = $1 AND key = $2 AND answered_at < locked_until AND locked_until <= clock_timestamp()
RETURNING true;

-- name: release_idempotency_key
-- Open the lock: a repetition may go on at once, under the same command id, or is given the provisional answer.
-- Index: idempotency_keys_pkey.
UPDATE idempotency_keys SET locked_until = clock_timestamp()
WHERE tenant_id = $1 AND key = $2 AND lock_token = $3 AND (answered_at IS NULL OR answered_at < locked_until);

-- name: forget_idempotency_key
-- Nothing was done under the key, and it may be used for something else. Index: idempotency_keys_pkey.
DELETE FROM idempotency_keys WHERE tenant_id = $1 AND key = $2 AND lock_token = $3 AND answered_at IS NULL;

-- name: purge_idempotency_keys
-- Remove up to $2 keys that were first used $1 seconds ago or earlier, the oldest first, and that nobody holds.
-- Index: idempotency_keys_created_at, then idempotency_keys_pkey. By an array, not by a join, as a claim.
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys
    WHERE created_at <= clock_timestamp() - make_interval(secs => $1) AND locked_until <= clock_timestamp()
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
))
RETURNING true;
