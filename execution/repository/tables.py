"""The tables, as SQLAlchemy metadata. `migrations/` must lead to exactly this; a test compares them."""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType

from execution.domain.state import ExecutionState
from execution.principal import Scope

_TIME = TIMESTAMP(timezone=True)
_IN_STATES = ", ".join(f"'{state}'" for state in ExecutionState)
_SCOPES = ", ".join(f"'{scope}'" for scope in Scope)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id: the order in which the relay and the tail read the log."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s",
        "ix": "%(table_name)s_%(column_0_name)s",
    }
)

executions = Table(
    "executions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("lease_epoch", Integer, nullable=False),
    Column("worker_id", Uuid),
    Column("attempt", Integer, nullable=False),
    Column("rescues", Integer, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("idempotent", Boolean, nullable=False),
    Column("pause_requested", Boolean, nullable=False),
    Column("agent_id", Text),
    Column("task_id", Text),
    Column("parent_id", Uuid),
    Column("trace_context", Text),
    Column("parameters", JSONB, nullable=False),
    Column("result", JSONB),
    Column("error", JSONB),
    Column("progress_percentage", Double, nullable=False),
    Column("progress_message", Text),
    Column("progress_context", JSONB),
    Column("retry_policy", JSONB),
    Column("schedule_to_start", Double),
    Column("start_to_close", Double),
    Column("deadline", _TIME),
    Column("run_at", _TIME, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("completed_at", _TIME),
    CheckConstraint(f"state IN ({_IN_STATES})", name="state_known"),
    CheckConstraint("version >= 1 AND attempt >= 1 AND rescues >= 0 AND lease_epoch >= 0", name="counters_count_up"),
    CheckConstraint("progress_percentage >= 0 AND progress_percentage <= 100", name="progress_is_a_percentage"),
    CheckConstraint(
        "(completed_at IS NOT NULL) = (state IN ('COMPLETED', 'PARTIAL_SUCCESS', 'FAILED', 'CANCELLED'))",
        name="terminal_has_ended",
    ),
    CheckConstraint(
        "worker_id IS NULL OR state IN ('RUNNING', 'CANCELLING', 'PAUSED')", name="only_open_runs_are_held"
    ),
    CheckConstraint("NOT pause_requested OR state = 'RUNNING' OR state = 'CANCELLING'", name="pause_awaits_a_run"),
    CheckConstraint("jsonb_typeof(parameters) = 'object'", name="parameters_are_an_object"),
    # Room on the page for the next version of the row, so that progress updates stay HOT.
    postgresql_with={"fillfactor": "80"},
)

# Partial indexes on `state` make the two transitions of a run non-HOT. Keeping the completion HOT by indexing a
# generated column instead was measured: no more executions per second, so the plainer form stays.
Index(
    "executions_claim",
    executions.c.kind,
    executions.c.priority.desc(),
    executions.c.run_at,
    executions.c.id,
    postgresql_where=text("state = 'PENDING'"),
)
Index("executions_held", executions.c.worker_id, postgresql_where=executions.c.worker_id.is_not(None))
Index("executions_deadline", executions.c.deadline, postgresql_where=executions.c.deadline.is_not(None))
Index("executions_list", executions.c.tenant_id, executions.c.id)
Index(
    "executions_list_state",
    executions.c.tenant_id,
    executions.c.state,
    executions.c.id,
    # COMPLETED is what nearly every row becomes; the plain list index serves that filter.
    postgresql_where=text("state IN ('FAILED', 'CANCELLED', 'PARTIAL_SUCCESS', 'PAUSED')"),
)
Index(
    "executions_list_agent",
    executions.c.tenant_id,
    executions.c.agent_id,
    executions.c.id,
    postgresql_where=executions.c.agent_id.is_not(None),
)
Index(
    "executions_list_task",
    executions.c.tenant_id,
    executions.c.task_id,
    executions.c.id,
    postgresql_where=executions.c.task_id.is_not(None),
)
Index("executions_parent", executions.c.parent_id, postgresql_where=executions.c.parent_id.is_not(None))

execution_events = Table(
    "execution_events",
    metadata,
    # No foreign key: one statement writes both rows, and its check would cost a lookup for each event.
    Column("execution_id", Uuid, nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("occurred_at", _TIME, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("actor", Text),
    Column("command_id", Uuid),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("data", JSONB, nullable=False),
    PrimaryKeyConstraint("execution_id", "version"),
    CheckConstraint("version >= 1", name="version_counts_from_one"),
)
Index("execution_events_xid", execution_events.c.xid)

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kinds", ARRAY(Text), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("timeout_seconds", REAL, nullable=False),
    Column("started_at", _TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("heartbeat_at", _TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("dead_at", _TIME),
    CheckConstraint("timeout_seconds > 0 AND concurrency > 0", name="promises_are_positive"),
    postgresql_with={"fillfactor": "50"},
)

agents = Table(
    "agents",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("instructions", Text, nullable=False, server_default=""),
    Column("created_at", _TIME, nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("tenant_id", "id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME),
    Column("revoked_at", _TIME),
    Column("last_used_at", _TIME),
    CheckConstraint("octet_length(hash) = 32", name="hash_is_a_sha256"),
    CheckConstraint(f"cardinality(scopes) > 0 AND scopes <@ ARRAY[{_SCOPES}]", name="scopes_known"),
)
Index("api_keys_prefix", api_keys.c.prefix, unique=True)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("command_id", Uuid, nullable=False),
    Column("lock_token", Uuid, nullable=False),
    Column("locked_until", _TIME, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("answered_at", _TIME),
    Column("status", SmallInteger),
    Column("headers", JSONB),
    Column("body", LargeBinary),
    PrimaryKeyConstraint("tenant_id", "key"),
    CheckConstraint("length(key) >= 1 AND length(key) <= 255", name="key_is_short"),
    CheckConstraint("octet_length(fingerprint) = 32", name="fingerprint_is_sha256"),
    CheckConstraint(
        "num_nulls(answered_at, status, headers, body) = 0 OR num_nulls(answered_at, status, headers, body) = 4",
        name="answer_is_whole",
    ),
)
Index("idempotency_keys_created_at", idempotency_keys.c.created_at)

execution_scopes = Table(
    "execution_scopes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("incident_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("allowed_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False, server_default=text("0")),
    Column("granted_by", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("expires_at", _TIME, nullable=False),
    CheckConstraint("risk IN ('low', 'high')", name="risk_known"),
    CheckConstraint("allowed_uses >= 1 AND uses >= 0 AND uses <= allowed_uses", name="uses_are_allowed"),
    CheckConstraint("expires_at > created_at", name="expires_after_it_was_granted"),
)
Index(
    "execution_scopes_found",
    execution_scopes.c.tenant_id,
    execution_scopes.c.incident_id,
    execution_scopes.c.action,
    execution_scopes.c.expires_at,
)

relay_cursors = Table(
    "relay_cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    CheckConstraint("position ~ '^[0-9]+:[0-9]+:[0-9,]*$'", name="position_is_a_snapshot"),
)

capabilities = Table(
    "capabilities",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("contract_id", Uuid, nullable=False),
    PrimaryKeyConstraint("tenant_id", "name"),
    CheckConstraint("length(name) >= 1 AND length(name) <= 200", name="name_is_short"),
    CheckConstraint("version >= 1", name="version_counts_from_one"),
)

capability_changes = Table(
    "capability_changes",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", _TIME, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("contract_id", Uuid, nullable=False),
    PrimaryKeyConstraint("tenant_id", "name", "version"),
    ForeignKeyConstraint(
        ["tenant_id", "name"], ["capabilities.tenant_id", "capabilities.name"], name="capability_changes_capability"
    ),
)
