"""Counters of what is stored, and how things were when somebody last looked."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from vault.store.tables.base import instant, metadata, text

_COUNTED = ("tenant", "what", "provider", "kind", "state")

tally = sa.Table(
    "tally",
    metadata,
    *(sa.Column(name, sa.Text, primary_key=True) for name in _COUNTED),
    sa.Column("amount", sa.BigInteger, nullable=False),
)
"""How many rows are alike, up to what ``tally_change`` still has; the tenant ``*`` is the sum of all."""

tally_change = sa.Table(
    "tally_change",
    metadata,
    *(text(name) for name in _COUNTED),
    sa.Column("amount", sa.BigInteger, nullable=False),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "5000"},
)
"""Differences that no counter has yet: written by triggers, taken away by whoever adds them up."""

health_sweep = sa.Table(
    "health_sweep",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    instant("began_at", nullable=True),
    sa.Column("place", UUID, nullable=True),
    sa.Column("counts", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("last_counts", JSONB, nullable=True),
    instant("last_began_at", nullable=True),
    instant("last_ended_at", nullable=True),
)
"""How far a look at all connections has come, and what the last whole one found."""

worker_sign = sa.Table(
    "worker_sign",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    instant("since", default=True),
    instant("seen_at", default=True),
    instant("alive_until"),
)
"""Signs of life; each says itself until when it counts."""
