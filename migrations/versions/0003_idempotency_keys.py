"""Idempotency keys: what was answered to a request that carried one, so that sending it again does nothing twice."""

from alembic import op

revision = "0003"
down_revision = "0002"

_UPGRADE = (
    """
    CREATE TABLE idempotency_keys (
        tenant_id TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint BYTEA NOT NULL,
        command_id UUID NOT NULL,
        lock_token UUID NOT NULL,
        locked_until TIMESTAMP WITH TIME ZONE NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        answered_at TIMESTAMP WITH TIME ZONE,
        status SMALLINT,
        headers JSONB,
        body BYTEA,
        CONSTRAINT idempotency_keys_pkey PRIMARY KEY (tenant_id, key),
        CONSTRAINT idempotency_keys_key_is_short CHECK (length(key) >= 1 AND length(key) <= 255),
        CONSTRAINT idempotency_keys_fingerprint_is_sha256 CHECK (octet_length(fingerprint) = 32),
        CONSTRAINT idempotency_keys_answer_is_whole CHECK (num_nulls(answered_at, status, headers, body) = 0 OR num_nulls(answered_at, status, headers, body) = 4)
    )
    """,
    """
    CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)
    """,
)


def upgrade() -> None:
    """Create the table."""
    for sql in _UPGRADE:
        op.execute(sql)


def downgrade() -> None:
    """Drop it, with every answer in it."""
    op.execute("DROP TABLE idempotency_keys")
