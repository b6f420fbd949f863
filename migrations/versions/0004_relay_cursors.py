"""Relay cursors: how far the log has been published, and which process publishes it."""

from alembic import op

revision = "0004"
down_revision = "0003"

_UPGRADE = (
    """
    CREATE TABLE relay_cursors (
        name TEXT NOT NULL,
        position TEXT NOT NULL,
        owner TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT relay_cursors_pkey PRIMARY KEY (name),
        CONSTRAINT relay_cursors_position_is_a_snapshot CHECK (position ~ '^[0-9]+:[0-9]+:[0-9,]*$')
    )
    """,
)


def upgrade() -> None:
    """Create the table."""
    for sql in _UPGRADE:
        op.execute(sql)


def downgrade() -> None:
    """Drop it; a relay would begin anew."""
    op.execute("DROP TABLE relay_cursors")
