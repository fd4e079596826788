"""Handing out tokens: what ``vault.get()`` does, and nothing it need not do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from vault import policy
from vault.claims import DataKeyRecord
from vault.envelope import DataKey, context, key_id, open_envelope
from vault.errors import ReconnectRequired, RefreshPending, TokenUnavailable, UnknownConnection
from vault.jobs import Refresh
from vault.keyring import Keyring
from vault.metrics import gets
from vault.model import SealedToken, Status, Token
from vault.ports import ConnectionStore, Doorbell, TokenReader
from vault.secret import Secret

ACCESS_TOKEN = "access_token"  # the name of a field
ZERO = timedelta(0)
MIN_TTL = timedelta(minutes=1)
"""Life that a served token has left unless the caller says otherwise, if there is such a token."""
FIRST_LOOK_S = 0.02
LONGEST_LOOK_S = 0.25
RING_AGAIN_S = 1.0
"""A stale token rings at most this often in one process."""
REMEMBERED_RINGS = 4096
REMEMBERED_CONNECTIONS = 100_000
"""Connections whose data key was at hand a moment ago: those are read without it, in a tenth less time."""
_ENDED = (Status.NEEDS_RECONNECT, Status.DISCONNECTED)

_FRESH, _STALE, _WAITED = gets.labels("fresh"), gets.labels("stale"), gets.labels("waited")
_PENDING, _RECONNECT, _UNKNOWN = gets.labels("pending"), gets.labels("reconnect"), gets.labels("unknown")


class _Known(NamedTuple):
    """What is remembered of a connection between two reads."""

    data_key_id: UUID
    bound: bytes
    """The encryption context of its access token."""


class _Read(NamedTuple):
    """A row, and what it can be opened with."""

    row: SealedToken
    record: DataKeyRecord | None
    key: DataKey | None
    bound: bytes


class Access:
    """Serves tokens of one tenant. Thread-safe."""

    def __init__(
        self,
        tenant: str,
        reader: TokenReader,
        keyring: Keyring,
        connections: ConnectionStore,
        doorbell: Doorbell,
        *,
        deadline: timedelta,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        refresh_here: Callable[[UUID], object] | None,
    ) -> None:
        self._tenant = tenant
        self._reader = reader
        self._keyring = keyring
        self._connections = connections
        self._doorbell = doorbell
        self._deadline = deadline
        self._monotonic = monotonic
        self._sleep = sleep
        self._refresh_here = refresh_here
        self._rung: OrderedDict[UUID, float] = OrderedDict()
        self._known = OrderedDict[int, _Known]()  # by UUID.int: hashing a UUID costs four times hashing its int

    def get(self, connection_id: UUID, min_ttl: timedelta) -> Token:
        """Answer with a token; see ``Vault.get``."""
        read = self._read(connection_id)
        row = read.row
        if not _suffices(row, min_ttl):
            return self._refreshed(row, min_ttl)
        if row.stale_at > row.now:
            _FRESH.inc()
        else:
            _STALE.inc()
            self._ring(connection_id)
        return self._open(read)

    def get_many(self, connection_ids: Sequence[UUID], min_ttl: timedelta) -> dict[UUID, Token | TokenUnavailable]:
        """Answer for each connection of this tenant, in one round trip; see ``Vault.get_many``."""
        answers: dict[UUID, Token | TokenUnavailable] = {}
        at_hand = all(map(self._has_key, connection_ids))
        for row, record in self._reader.read_many(connection_ids, with_keys=not at_hand):
            if row.tenant != self._tenant:
                continue
            alive = row.access_envelope is not None and row.expires_at > row.now
            if row.stale_at <= row.now or not _suffices(row, min_ttl):
                self._ring(row.connection_id)
            answers[row.connection_id] = self._open(self._with(row, record)) if alive else self._unavailable(row)
        return answers

    # --------------------------------------------------------------------------------------------------- reading

    def _read(self, connection_id: UUID) -> _Read:
        """Read the row; with its data key in the same round trip unless that was at hand for this connection before."""
        known = self._known.get(connection_id.int)
        key = None if known is None else self._keyring.cached(known.data_key_id)
        found = self._reader.read(connection_id, with_key=key is None)
        if found is None or found[0].tenant != self._tenant:
            _UNKNOWN.inc()
            raise UnknownConnection(connection_id)
        if known is None:
            return self._with(*found)
        return _Read(*found, key, known.bound)

    def _has_key(self, connection_id: UUID) -> bool:
        known = self._known.get(connection_id.int)
        return known is not None and self._keyring.cached(known.data_key_id) is not None

    def _with(self, row: SealedToken, record: DataKeyRecord | None) -> _Read:
        known = self._known.get(row.connection_id.int)
        if known is None:
            return _Read(row, record, None, context(row.tenant, row.connection_id, ACCESS_TOKEN))
        return _Read(row, record, self._keyring.cached(known.data_key_id), known.bound)

    def _open(self, read: _Read) -> Token:
        row, record, key, bound = read
        envelope = row.access_envelope or b""
        if key is None or not envelope.startswith(key.header):  # unknown, or rotated since
            key = self._key(envelope, record)
            self._remember(row.connection_id, _Known(key.id, bound))
        plain = open_envelope(key, envelope, bound, row.version)
        return Token(
            row.connection_id, Secret(plain.decode()), row.token_type, row.expires_at, row.expires_at - row.now
        )

    def _key(self, envelope: bytes, record: DataKeyRecord | None) -> DataKey:
        wanted = key_id(envelope)
        if record is not None and record.id == wanted:
            return self._keyring.key(record)
        return self._keyring.opening_key(wanted)

    def _remember(self, connection_id: UUID, known: _Known) -> None:
        self._known[connection_id.int] = known
        if len(self._known) > REMEMBERED_CONNECTIONS:
            self._known.popitem(last=False)

    # -------------------------------------------------------------------------------------------------- refreshing

    def _refreshed(self, first: SealedToken, min_ttl: timedelta) -> Token:
        """Ask the urgent lane and wait. What still lives at the end is served, short as it may be (P3)."""
        row, wait = first, ZERO
        until = self._monotonic() + self._deadline.total_seconds()
        pause = FIRST_LOOK_S
        asked = False
        while row.status not in _ENDED:
            if not asked:
                wait = self._ask(row.connection_id)
                asked = True
            if wait.total_seconds() > until - self._monotonic() or self._monotonic() >= until:
                break
            self._sleep(pause)
            pause = min(LONGEST_LOOK_S, pause * 1.5)
            read = self._read(row.connection_id)
            row = read.row
            if row.status in _ENDED:
                break
            if row.version != first.version or _suffices(row, min_ttl):
                _WAITED.inc()
                return self._open(read)
            if row.status != first.status or row.reason != first.reason:
                asked = False
        if row.access_envelope is not None and row.expires_at > row.now:
            _STALE.inc()
            return self._open(self._with(row, None))
        raise self._unavailable(row, wait)

    def _ask(self, connection_id: UUID) -> timedelta:
        """Make it urgent; returns how long until it is tried, which is longer than we wait when it is backing off."""
        wait = self._connections.ask(self._tenant, connection_id, insist=False)
        if wait == ZERO:
            self._ring(connection_id)
            if self._refresh_here is not None:
                self._refresh_here(connection_id)
        return ZERO if wait is None else wait

    def _unavailable(self, row: SealedToken, wait: timedelta = ZERO) -> TokenUnavailable:
        if row.status in _ENDED:
            _RECONNECT.inc()
            return ReconnectRequired(row.connection_id, row.reason or row.status)
        _PENDING.inc()
        return RefreshPending(row.connection_id, row.reason or "refreshing", max(wait, timedelta(seconds=1)))

    def _ring(self, connection_id: UUID) -> None:
        now = self._monotonic()
        last = self._rung.get(connection_id)
        if last is not None and now - last < RING_AGAIN_S:
            return
        self._rung[connection_id] = now
        if len(self._rung) > REMEMBERED_RINGS:
            self._rung.popitem(last=False)
        self._doorbell.ring(Refresh.task, Refresh.lane, str(connection_id))


def _suffices(row: SealedToken, min_ttl: timedelta) -> bool:
    left = row.expires_at - row.now
    return row.access_envelope is not None and (
        left > min_ttl or policy.is_long_enough(row.expires_at - row.refreshed_at, left, min_ttl)
    )
