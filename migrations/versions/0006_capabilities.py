"""Capabilities: what steps enable and disable, and every change of it."""

from alembic import op

revision = "0006"
down_revision = "0005"

_UPGRADE = (
    """
    CREATE TABLE capabilities (
        tenant_id TEXT NOT NULL,
        name TEXT NOT NULL,
        enabled BOOLEAN NOT NULL,
        version INTEGER NOT NULL,
        changed_by TEXT NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        job_id UUID NOT NULL,
        contract_id UUID NOT NULL,
        CONSTRAINT capabilities_pkey PRIMARY KEY (tenant_id, name),
        CONSTRAINT capabilities_name_is_short CHECK (length(name) >= 1 AND length(name) <= 200),
        CONSTRAINT capabilities_version_counts_from_one CHECK (version >= 1)
    )
    """,
    """
    CREATE TABLE capability_changes (
        tenant_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        enabled BOOLEAN NOT NULL,
        changed_by TEXT NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        job_id UUID NOT NULL,
        contract_id UUID NOT NULL,
        CONSTRAINT capability_changes_pkey PRIMARY KEY (tenant_id, name, version),
        CONSTRAINT capability_changes_capability FOREIGN KEY (tenant_id, name) REFERENCES capabilities (tenant_id, name)
    )
    """,
)


def upgrade() -> None:
    """Create the tables."""
    for sql in _UPGRADE:
        op.execute(sql)


def downgrade() -> None:
    """Drop them, and with them what is enabled."""
    op.execute("DROP TABLE capability_changes")
    op.execute("DROP TABLE capabilities")
