"""PostgreSQL 18 from a wheel, started on demand and shared by the processes of one data directory (POSIX only)."""

from execution.embedded.postgres import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
