"""Proving tokens of sessions: who reaches the slow hash, what it sees, and for how long a proof counts."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.support.fake_keys import Rig, counting_ids
from tests.support.fake_sessions import CountingHash, FakeSessions
from vault.errors import InvalidCredential, KeyUnavailable, TokenRefused
from vault.hashing import BcryptHash
from vault.secret import Secret
from vault.services.sessions import Remembered, Sessions
from vault.validation.sessions import NewSession

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Desk:
    """Sessions of a tenant over fakes; ``another_process`` shares the database and nothing else."""

    def __init__(self, rig: Rig | None = None, store: FakeSessions | None = None, capacity: int = 100) -> None:
        self.rig = rig or Rig()
        self.store = store or FakeSessions(self.rig.clock)
        self.hashing = CountingHash()
        self.remembered = Remembered(MINUTE, capacity, monotonic=self.rig.clock, random=os.urandom)
        self._new_id = counting_ids(1000 + 100 * len(self.store.rows))
        self.keyring = self.rig.another_process()
        self.sessions = self.of("default")

    def of(self, tenant: str) -> Sessions:
        return Sessions(
            tenant, self.store, self.keyring, self.hashing, self.remembered, life=HOUR, per_device=True,
            new_id=self._new_id, random=os.urandom,
        )  # fmt: skip

    def another_process(self) -> Desk:
        return Desk(self.rig, self.store)

    def make(self, user_id: str = "olga", token: str | None = None, life: timedelta | None = None) -> NewSession:
        given = None if token is None else Secret(token)
        return self.sessions.create(
            user_id, device="", subscription="free", scopes=(), metadata=None, life=life, token=given
        )

    def look(self, token: str) -> str:
        """The user whose token it is, or why it is refused."""
        try:
            return self.sessions.verify(token)[0].user_id
        except TokenRefused as refusal:
            return refusal.reason


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_unknown_tokens_never_reach_the_slow_hash(desk: Desk) -> None:
    known = desk.make().token.reveal()
    near = [known[:-1], known + "x", known[:-1] + chr(ord(known[-1]) ^ 1), known.upper(), known[::-1]]
    assert {desk.look(token) for token in (*near, *(f"evs_{n:043}" for n in range(200)))} == {"unknown"}
    assert desk.hashing.compared == []
    assert desk.look(known) == "olga"
    assert len(desk.hashing.compared) == 1


@pytest.mark.parametrize(
    "token", ["", " ", "a b", "a\nb", "a\0b", "é", "\ud800", "a" * 8193, "a" * 10**6, "a\x7f", "a\r\nHost: b"], ids=repr
)
def test_what_cannot_be_a_token_reaches_nobody(desk: Desk, token: str) -> None:
    assert desk.look(token) == "malformed"
    assert desk.store.reads == 0


def test_tokens_that_share_72_bytes_are_told_apart(desk: Desk) -> None:
    """bcrypt alone would take one for the other: it looks no further."""
    same = "t" * 72
    for user in ("olga", "nina"):
        desk.make(user, same + user)
    assert [desk.look(same + end) for end in ("olga", "nina", "", "oleg")] == ["olga", "nina", "unknown", "unknown"]


def test_bcrypt_tells_them_apart_as_well_behind_the_fingerprint() -> None:
    """Were two such tokens to meet in one row, what it is given of them differs within its 72 bytes."""
    desk = Desk()
    for user in ("olga", "nina"):
        desk.make(user, "t" * 72 + user)
    one, other = desk.hashing.hashed
    assert len(one) == len(other) == 44
    hashing = BcryptHash(4)
    hashed = hashing.hash(one)
    assert hashed.startswith(b"$2b$04$")
    assert hashing.fits(one, hashed)
    assert not hashing.fits(other, hashed)


def test_what_bcrypt_cannot_see_whole_is_not_given_to_it() -> None:
    hashing = BcryptHash(4)
    for text in (b"t" * 73, b"t\0t"):
        with pytest.raises(ValueError, match="72 bytes"):
            hashing.hash(text)
    assert not hashing.fits(b"t", b"no hash")


def test_a_hash_that_was_moved_to_anothers_row_fits_nothing_there(desk: Desk) -> None:
    """Whoever can write to the database gives their own token's marks to another session, or another name to theirs."""
    theirs, victims = desk.make("eve"), desk.make("olga")
    row, session = desk.store.rows[theirs.session.id]
    other, others = desk.store.rows.pop(victims.session.id)
    moved = other._replace(token_fp=row.token_fp, token_hash=row.token_hash)
    desk.store.rows = {others.id: (moved, others)}
    assert desk.look(theirs.token.reveal()) == "unknown"
    desk.store.rows = {session.id: (row, session._replace(user_id="olga"))}
    assert desk.look(theirs.token.reveal()) == "unknown"
    desk.store.rows = {others.id: (row, session._replace(id=others.id))}
    assert desk.look(theirs.token.reveal()) == "unknown"
    desk.store.rows = {session.id: (row, session)}
    assert desk.look(theirs.token.reveal()) == "eve"


def test_a_proof_counts_for_a_minute_and_no_longer(desk: Desk) -> None:
    token = desk.make().token.reveal()
    assert [desk.sessions.verify(token)[1] for _ in range(3)] == [False, True, True]
    desk.rig.clock.pass_by(MINUTE - SECOND)
    assert desk.sessions.verify(token)[1]
    assert desk.store.reads == 1
    desk.rig.clock.pass_by(SECOND)
    assert not desk.sessions.verify(token)[1]
    assert (desk.store.reads, len(desk.hashing.compared)) == (2, 2)


def test_a_proof_counts_no_longer_than_its_session_lives(desk: Desk) -> None:
    token = desk.make(life=10 * SECOND).token.reveal()
    assert desk.look(token) == "olga"
    desk.rig.clock.pass_by(9 * SECOND)
    assert desk.look(token) == "olga"
    desk.rig.clock.pass_by(SECOND)
    assert desk.look(token) == "expired"


def test_a_revoked_session_is_over_at_once_here_and_within_a_minute_elsewhere(desk: Desk) -> None:
    made = desk.make()
    token, elsewhere = made.token.reveal(), desk.another_process()
    assert [desk.look(token), elsewhere.look(token)] == ["olga", "olga"]
    desk.sessions.revoke(made.session.id)
    assert [desk.look(token), elsewhere.look(token)] == ["revoked", "olga"]
    desk.rig.clock.pass_by(MINUTE)
    assert elsewhere.look(token) == "revoked"
    assert len(desk.hashing.compared) == 1, "nor does a token of an ended session reach the slow hash"


def test_what_was_read_before_a_revocation_is_not_remembered_after_it(desk: Desk) -> None:
    """A revocation comes between the read of the row and the end of the slow hash."""
    made = desk.make()
    fits = desk.hashing.fits

    def revoked_meanwhile(text: bytes, hashed: bytes) -> bool:
        desk.sessions.revoke(made.session.id)
        return fits(text, hashed)

    desk.hashing.fits = revoked_meanwhile  # type: ignore[method-assign]
    assert desk.look(made.token.reveal()) == "olga", "who asked before it was revoked is answered as of then"
    assert desk.look(made.token.reveal()) == "revoked"


def test_many_requests_with_one_token_prove_it_once(desk: Desk) -> None:
    token, there = desk.make().token.reveal(), threading.Barrier(8)
    fits = desk.hashing.fits

    def slowly(text: bytes, hashed: bytes) -> bool:
        threading.Event().wait(0.05)
        return fits(text, hashed)

    desk.hashing.fits = slowly  # type: ignore[method-assign]

    def look(_: int) -> str:
        there.wait()
        return desk.look(token)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(look, range(8))) == {"olga"}
    assert len(desk.hashing.compared) == 1


def test_what_is_remembered_is_bounded(desk: Desk) -> None:
    desk = Desk(capacity=5)
    tokens = [desk.make(f"user {n}").token.reveal() for n in range(20)]
    for n, token in enumerate(tokens):
        assert desk.look(token) == f"user {n}"
        assert len(desk.remembered) <= 5


def test_a_remembered_token_is_served_while_the_kms_is_away(desk: Desk) -> None:
    token = desk.make().token.reveal()
    assert desk.look(token) == "olga"
    desk.keyring.forget()
    desk.rig.kms.unavailable(transient=True)
    assert desk.look(token) == "olga"
    with pytest.raises(KeyUnavailable) as raised:
        desk.look("evs_" + "x" * 43)
    assert raised.value.transient, "nobody can say, which is no refusal"


def test_a_token_of_another_tenant_is_nobodys(desk: Desk) -> None:
    token = desk.make().token.reveal()
    assert desk.look(token) == "olga"
    with pytest.raises(TokenRefused, match="unknown"):
        desk.of("other").verify(token)


@pytest.mark.parametrize("token", ["t" * 31, "t" * 8193, "t" * 40 + " ", "t" * 40 + "\n", "é" * 40])
def test_a_token_that_is_brought_along_must_be_hard_to_guess_and_fit_a_header(desk: Desk, token: str) -> None:
    with pytest.raises(InvalidCredential) as refused:
        desk.make(token=token)
    assert token.strip() not in str(refused.value)


def test_tokens_are_made_of_256_bits(desk: Desk) -> None:
    tokens = {desk.make(f"user {n}").token.reveal() for n in range(50)}
    assert len(tokens) == 50
    assert {(token[:4], len(token)) for token in tokens} == {("evs_", 4 + 43)}
