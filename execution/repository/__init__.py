"""Owns SQL: tables, statements, the group-committed append path, claims, listing."""
