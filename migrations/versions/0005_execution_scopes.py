"""Scopes: what allows an action of high risk, how often, and until when."""

from alembic import op

revision = "0005"
down_revision = "0004"

_UPGRADE = (
    """
    CREATE TABLE execution_scopes (
        id UUID NOT NULL,
        tenant_id TEXT NOT NULL,
        incident_id TEXT NOT NULL,
        action TEXT NOT NULL,
        risk TEXT NOT NULL,
        allowed_uses INTEGER NOT NULL,
        uses INTEGER DEFAULT 0 NOT NULL,
        granted_by TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT execution_scopes_pkey PRIMARY KEY (id),
        CONSTRAINT execution_scopes_risk_known CHECK (risk IN ('low', 'high')),
        CONSTRAINT execution_scopes_uses_are_allowed CHECK (allowed_uses >= 1 AND uses >= 0 AND uses <= allowed_uses),
        CONSTRAINT execution_scopes_expires_after_it_was_granted CHECK (expires_at > created_at)
    )
    """,
    "CREATE INDEX execution_scopes_found ON execution_scopes (tenant_id, incident_id, action, expires_at)",
)


def upgrade() -> None:
    """Create the table."""
    for sql in _UPGRADE:
        op.execute(sql)


def downgrade() -> None:
    """Drop it, and with it what was granted."""
    op.execute("DROP TABLE execution_scopes")
