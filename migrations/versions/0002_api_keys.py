"""API keys: who may come through the HTTP door, for which tenant, and what for."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.execute("""
    CREATE TABLE api_keys (
        id UUID NOT NULL,
        tenant_id TEXT NOT NULL,
        name TEXT NOT NULL,
        prefix TEXT NOT NULL,
        hash BYTEA NOT NULL,
        scopes TEXT[] NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE,
        revoked_at TIMESTAMP WITH TIME ZONE,
        last_used_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT api_keys_pkey PRIMARY KEY (id),
        CONSTRAINT api_keys_hash_is_a_sha256 CHECK (octet_length(hash) = 32),
        CONSTRAINT api_keys_scopes_known CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin'])
    )
    """)
    op.execute("CREATE UNIQUE INDEX api_keys_prefix ON api_keys (prefix)")


def downgrade() -> None:
    """Drop the keys: nobody's is accepted afterwards."""
    op.execute("DROP TABLE api_keys")
