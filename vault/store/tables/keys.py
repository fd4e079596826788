"""Keys at rest, and which tenant brought which KEK."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from vault.store.tables.base import SCHEMA, blob, instant, metadata, text

tenant_key = sa.Table(
    "tenant_key",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("state"),
    text("kek_id"),
    text("algorithm"),
    blob("wrapped"),
    instant("created_at", default=True),
    instant("rewrapped_at", nullable=True),
    instant("replaced_at", nullable=True),
    instant("retired_at", nullable=True),
    sa.Index("tenant_key_current", "tenant", unique=True, postgresql_where=sa.text("state = 'current'")),
    sa.Index("tenant_key_by_kek", "kek_id"),
)

tenant_kek = sa.Table(
    "tenant_kek",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    text("uri", nullable=True),
    sa.Column("former_uris", sa.ARRAY(sa.Text), nullable=False),
    instant("changed_at", default=True),
)

data_key = sa.Table(
    "data_key",
    metadata,
    sa.Column("id", UUID, primary_key=True),
    text("tenant"),
    text("owner"),
    text("provider"),
    text("purpose"),
    text("state"),
    sa.Column("tenant_key_id", UUID, sa.ForeignKey(f"{SCHEMA}.tenant_key.id"), nullable=False),
    blob("wrapped"),
    instant("created_at", default=True),
    instant("replaced_at", nullable=True),
    instant("retired_at", nullable=True),
    sa.Index(
        "data_key_current",
        "tenant",
        "owner",
        "provider",
        "purpose",
        unique=True,
        postgresql_where=sa.text("state = 'current'"),
    ),
    sa.Index("data_key_by_age", "created_at", postgresql_where=sa.text("state = 'current' AND purpose = 'grant'")),
    sa.Index("data_key_replaced", "id", postgresql_where=sa.text("state = 'previous'")),
    sa.Index("data_key_by_tenant_key", "tenant_key_id", "id"),
    sa.Index("data_key_retired", "retired_at", postgresql_where=sa.text("state = 'retired'")),
)

open_audit = sa.Table(
    "open_audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    instant("started_at"),
    sa.Column("opened", sa.BigInteger, nullable=False),
    sa.Column("cannot_open", sa.BigInteger, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False),
)
