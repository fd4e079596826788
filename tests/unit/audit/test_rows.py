"""What is digested of a row: no two rows, places or beginnings are encoded alike."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vault.audit.lines import read_line, row_line
from vault.audit.rows import LABEL, LEAST_DAYS, NOTHING, AuditRow, Link, digest, encoded, instant, microseconds
from vault.store.upkeep import CANDIDATE_LIFE

BIG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.builds(
    AuditRow, id=BIG, xid=st.integers(0, 2**64 - 1), at=BIG, tenant=TEXT, event=TEXT,
    connection_id=st.none() | st.uuids(), detail=TEXT,
)  # fmt: skip
DIGESTS = st.binary(min_size=32, max_size=32)


def _decoded(said: bytes) -> tuple[bytes, int, AuditRow]:
    """Read back what was encoded, which is the proof that nothing else is encoded so."""
    assert said.startswith(LABEL)
    rest = said[len(LABEL) :]
    previous, numbers, rest = rest[:32], struct.unpack(">qqQq", rest[32:64]), rest[64:]
    texts = []
    for _ in range(3):
        (length,) = struct.unpack_from(">I", rest)
        texts.append(rest[4 : 4 + length].decode())
        rest = rest[4 + length :]
    tenant, event, detail = texts
    seq, id_, xid, at = numbers
    return previous, seq, AuditRow(id_, xid, at, tenant, event, UUID(bytes=rest) if rest else None, detail)


@given(DIGESTS, BIG, ROWS)
def test_everything_can_be_read_back_from_what_is_digested(previous: bytes, seq: int, row: AuditRow) -> None:
    assert _decoded(encoded(previous, seq, row)) == (previous, seq, row)


@given(st.tuples(DIGESTS, BIG, ROWS), st.tuples(DIGESTS, BIG, ROWS))
def test_no_two_are_encoded_alike(one: tuple[bytes, int, AuditRow], other: tuple[bytes, int, AuditRow]) -> None:
    assert (encoded(*one) == encoded(*other)) is (one == other)


@given(BIG, DIGESTS, ROWS)
def test_a_row_survives_its_line(seq: int, given_digest: bytes, row: AuditRow) -> None:
    link = Link(row.tenant, abs(seq) % 2**63, given_digest, row.id, row)
    assert read_line(row_line(link)) == ("row", link)


def test_the_digest_of_one_row_is_pinned() -> None:
    """Files that were exported must verify for as long as they are kept."""
    row = AuditRow(7, 1000, 848_000_000_000_001, "default", "oauth.refreshed", UUID(int=5), '{"epoch": 3}')
    assert digest(NOTHING, 1, row).hex() == "28b3c1d99954e803223cfcf67833709c272ab59aec676a74446051a8915f27a4"


def test_instants_are_those_of_postgresql() -> None:
    at = datetime(2026, 11, 21, 17, 30, 0, 123456, tzinfo=UTC)
    assert instant(microseconds(at)) == at
    assert microseconds(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert instant(2**63 - 1) is None


def test_the_audit_is_remembered_for_longer_than_a_candidate_lives() -> None:
    """Whether a late answer was stored before, only the audit knows."""
    assert timedelta(days=LEAST_DAYS) > CANDIDATE_LIFE
