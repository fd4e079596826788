"""Columns made by us are the arrays that psycopg would have made of the same lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.store.rows import Rows
from vault.store.arrays import Bigints, Byteas, Column, Instants, Integers, Texts, Uuids

INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # bounds
KINDS = {
    "uuid": (Uuids, st.uuids()),
    "integer": (Integers, st.integers(-(2**31), 2**31 - 1)),
    "bigint": (Bigints, st.integers(-(2**63), 2**63 - 1)),
    "bytea": (Byteas, st.none() | st.binary()),
    "text": (Texts, st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
    "timestamptz": (Instants, st.none() | INSTANTS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_comes_back(rows: Rows, kind: str) -> None:
    maker, values = KINDS[kind]
    with rows.database.connect() as connection:
        cursor = connection.cursor(binary=True)

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(values, max_size=20))
        def comes_back(sent: Sequence[Any]) -> None:
            column: Column = maker.of(sent)  # type: ignore[attr-defined]  # each has its own
            got = cursor.execute(f"SELECT %b::{kind}[], pg_typeof(%b)::text".encode(), (column, column)).fetchone()
            assert got is not None
            assert got[0] == sent
            assert got[1] == f"{kind}[]".replace("timestamptz", "timestamp with time zone")

        comes_back()


def test_a_number_too_large_is_an_error_here() -> None:
    with pytest.raises(Exception, match="format requires"):
        Integers.of([2**31])
    assert Bigints.of([2**31])


def test_an_instant_keeps_its_microseconds(rows: Rows) -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC)
    early = datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    with rows.database.connect() as connection:
        got = connection.execute("SELECT %b::timestamptz[]", (Instants.of([at, early, at + timedelta.resolution]),))
        assert got.fetchone() == ([at, early, at + timedelta.resolution],)


def test_a_uuid_is_sent_as_its_sixteen_bytes() -> None:
    assert Uuids.of([UUID(int=1)]).endswith(b"\x00\x00\x00\x10" + UUID(int=1).bytes)
