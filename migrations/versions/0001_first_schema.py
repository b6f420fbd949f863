"""The first schema: executions, their log, the workers and the agents."""

from alembic import op

revision = "0001"
down_revision = None

_UPGRADE = (
    """
    CREATE TABLE executions (
        id UUID NOT NULL,
        tenant_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        lease_epoch INTEGER NOT NULL,
        worker_id UUID,
        attempt INTEGER NOT NULL,
        rescues INTEGER NOT NULL,
        priority SMALLINT NOT NULL,
        idempotent BOOLEAN NOT NULL,
        pause_requested BOOLEAN NOT NULL,
        agent_id TEXT,
        task_id TEXT,
        parent_id UUID,
        trace_context TEXT,
        parameters JSONB NOT NULL,
        result JSONB,
        error JSONB,
        progress_percentage DOUBLE PRECISION NOT NULL,
        progress_message TEXT,
        progress_context JSONB,
        retry_policy JSONB,
        schedule_to_start DOUBLE PRECISION,
        start_to_close DOUBLE PRECISION,
        deadline TIMESTAMP WITH TIME ZONE,
        run_at TIMESTAMP WITH TIME ZONE NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE,
        completed_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT executions_pkey PRIMARY KEY (id),
        CONSTRAINT executions_state_known CHECK (state IN ('CREATED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING', 'COMPLETED', 'PARTIAL_SUCCESS', 'FAILED', 'CANCELLED')),
        CONSTRAINT executions_counters_count_up CHECK (version >= 1 AND attempt >= 1 AND rescues >= 0 AND lease_epoch >= 0),
        CONSTRAINT executions_progress_is_a_percentage CHECK (progress_percentage >= 0 AND progress_percentage <= 100),
        CONSTRAINT executions_terminal_has_ended CHECK ((completed_at IS NOT NULL) = (state IN ('COMPLETED', 'PARTIAL_SUCCESS', 'FAILED', 'CANCELLED'))),
        CONSTRAINT executions_only_open_runs_are_held CHECK (worker_id IS NULL OR state IN ('RUNNING', 'CANCELLING', 'PAUSED')),
        CONSTRAINT executions_pause_awaits_a_run CHECK (NOT pause_requested OR state = 'RUNNING' OR state = 'CANCELLING'),
        CONSTRAINT executions_parameters_are_an_object CHECK (jsonb_typeof(parameters) = 'object')
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE INDEX executions_claim ON executions (kind, priority DESC, run_at, id) WHERE state = 'PENDING'
    """,
    """
    CREATE INDEX executions_deadline ON executions (deadline) WHERE deadline IS NOT NULL
    """,
    """
    CREATE INDEX executions_held ON executions (worker_id) WHERE worker_id IS NOT NULL
    """,
    """
    CREATE INDEX executions_list ON executions (tenant_id, id)
    """,
    """
    CREATE INDEX executions_list_agent ON executions (tenant_id, agent_id, id) WHERE agent_id IS NOT NULL
    """,
    """
    CREATE INDEX executions_list_state ON executions (tenant_id, state, id) WHERE state IN ('FAILED', 'CANCELLED', 'PARTIAL_SUCCESS', 'PAUSED')
    """,
    """
    CREATE INDEX executions_list_task ON executions (tenant_id, task_id, id) WHERE task_id IS NOT NULL
    """,
    """
    CREATE INDEX executions_parent ON executions (parent_id) WHERE parent_id IS NOT NULL
    """,
    """
    CREATE TABLE execution_events (
        execution_id UUID NOT NULL,
        version INTEGER NOT NULL,
        type TEXT NOT NULL,
        occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
        tenant_id TEXT NOT NULL,
        actor TEXT,
        command_id UUID,
        xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
        data JSONB NOT NULL,
        CONSTRAINT execution_events_pkey PRIMARY KEY (execution_id, version),
        CONSTRAINT execution_events_version_counts_from_one CHECK (version >= 1)
    )
    """,
    """
    CREATE INDEX execution_events_xid ON execution_events (xid)
    """,
    """
    CREATE TABLE workers (
        id UUID NOT NULL,
        kinds TEXT[] NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        concurrency INTEGER NOT NULL,
        timeout_seconds REAL NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        heartbeat_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        dead_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT workers_pkey PRIMARY KEY (id),
        CONSTRAINT workers_promises_are_positive CHECK (timeout_seconds > 0 AND concurrency > 0)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE agents (
        tenant_id TEXT NOT NULL,
        id TEXT NOT NULL,
        model TEXT NOT NULL,
        instructions TEXT DEFAULT '' NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT agents_pkey PRIMARY KEY (tenant_id, id)
    )
    """,
    """
    CREATE FUNCTION refuse_rewriting_history() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'execution_events is an immutable log; events are never changed';
    END
    $$
    """,
    """
    CREATE TRIGGER execution_events_are_immutable BEFORE UPDATE ON execution_events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_history()
    """,
)


def upgrade() -> None:
    """Create everything."""
    for sql in _UPGRADE:
        op.execute(sql)


def downgrade() -> None:
    """Drop everything, the log included."""
    for table in ("agents", "workers", "execution_events", "executions"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION refuse_rewriting_history")
