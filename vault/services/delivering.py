"""Sending events: every delivery that is due, signed, to webhooks and to Python code.

Rows say what is due; an endpoint has a few deliveries in flight and no more, so one that is dead or slow holds nobody
up. What a process that died had in hand is due again when its lease is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from vault.engine.values import opened
from vault.errors import CannotOpen, KeyUnavailable
from vault.events import Due, Ended, Event, EventType, after_failure
from vault.keyring import Keyring
from vault.metrics import event_deliveries, events_overdue_seconds
from vault.outcome import Exchange, TokenRequest
from vault.ports import OutboxStore, Transport
from vault.secret import Secret
from vault.webhooks import Style, sign

log = structlog.get_logger(__name__)

SPREAD, SPREADS = 200, 10
"""New events taken at a time, and how often between two looks at what is due."""
IN_FLIGHT: Final = 256
EACH: Final = 8
"""Deliveries to one endpoint at a time, in all processes together."""
POLL: Final = timedelta(milliseconds=50)
LOOK_S: Final = 1.0
"""While answers are waited for, new events are looked for this often."""
HOOK_LEASE: Final = timedelta(minutes=10)
"""Far above the time limit of the task that calls a hook."""
NO_KEY: Final = timedelta(minutes=1)
TOLERATED: Final = timedelta(minutes=2)
"""A delivery may be due for this long before the system counts as unwell."""
ZERO: Final = timedelta(0)
GONE: Final = 410
HEADERS: Final = ("Content-Type: application/json", "User-Agent: evergrant")


class DeliveryTally(NamedTuple):
    """What a run of deliveries did."""

    outcomes: Mapping[str, int]
    """Attempts by how they ended."""
    backlog: bool
    """More may be due than the budget allowed."""


class Delivering:
    """The use case behind ``vault.deliver``; one instance serves one thread at a time."""

    def __init__(
        self,
        store: OutboxStore,
        transport: Transport,
        keyring: Keyring,
        hooks: Callable[[], Mapping[str, Callable[[Event], object]]],
        *,
        deadline: timedelta,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._store, self._transport, self._keyring = store, transport, keyring
        self._installed, self._deadline = hooks, deadline
        self._monotonic, self._jitter = monotonic, jitter
        self._hooks: dict[UUID, Callable[[Event], object]] | None = None
        self._secrets: dict[tuple[UUID, tuple[int, ...]], list[Secret]] = {}
        self._outcomes: Counter[str] = Counter()

    def run(self, budget: timedelta) -> DeliveryTally:
        """Send everything due; begins nothing after ``budget``, then waits for what is in flight."""
        until = self._begin(budget)
        backlog = self._post_all(until)
        backlog |= self._call_all(until)
        return DeliveryTally(dict(self._outcomes), backlog)

    def one(self, event_id: UUID, endpoint_id: UUID) -> None:
        """Make one attempt at one delivery, if it is due and in nobody's hands."""
        self._begin(ZERO)
        for due in self._store.claim(1, 1, self._lease, None, (event_id, endpoint_id)):
            if due.kind == "webhook":
                self._post([due])
            else:
                self._call(due)
        while self._transport.in_flight:
            self._hear()

    def overdue(self) -> str | None:
        """Say what is late; None: nothing is."""
        found = self._store.overdue()
        late = found.late.total_seconds()
        events_overdue_seconds.set(late)
        if found.late <= TOLERATED:
            return None
        return f"events have waited for {late:.0f} s to be sent to {found.rows} endpoints: are workers running?"

    def _begin(self, budget: timedelta) -> float:
        self._outcomes.clear()
        self._secrets.clear()
        if self._hooks is None:
            installed = self._installed()
            known = self._store.know_hooks(tuple(installed))
            self._hooks = {endpoint_id: installed[name] for endpoint_id, name in known.items()}
        return self._monotonic() + budget.total_seconds()

    @property
    def _lease(self) -> timedelta:
        return self._deadline * 3

    # ------------------------------------------------------------------------------------------------------- webhooks

    def _post_all(self, until: float) -> bool:
        """Send to webhooks, looking once at least; returns whether there may be more to send."""
        found, first, sent = True, True, False
        look_at = self._monotonic()
        while True:
            now = self._monotonic()
            if first or look_at <= now < until:
                found, first, look_at = self._take(), False, now + LOOK_S
                sent |= found
            if self._transport.in_flight:
                if self._hear():
                    look_at = now  # there is room again
            elif now >= until:
                return sent
            elif not found:
                return False
            else:
                look_at = now

    def _take(self) -> bool:
        for _ in range(SPREADS):
            if self._store.spread(SPREAD, _tell) < SPREAD:
                break
        room = IN_FLIGHT - self._transport.in_flight
        due = self._store.claim(room, EACH, self._lease, None, None) if room > 0 else []
        self._post(due)
        return bool(due)

    def _post(self, dues: Sequence[Due]) -> None:
        unsent = []
        for due in dues:
            try:
                secrets = self._signing(due)
            except KeyUnavailable:  # of one tenant; the others' are not to wait for it
                unsent.append(self._end(due, "unsent", "pending", NO_KEY, None, "key_unavailable", begun=False))
                continue
            except CannotOpen:
                unsent.append(self._failed(due, None, "cannot_open", None))
                continue
            if not secrets:
                unsent.append(self._failed(due, None, "no_secret", None))
                continue
            self._transport.start(self._request(due, secrets))
        if unsent:
            self._store.end(unsent)

    def _signing(self, due: Due) -> list[Secret]:
        """Open what a delivery is signed with; none, if its secret was taken away. Raises as ``opened``."""
        place = (due.endpoint_id, tuple(each.version for each in due.signing))
        if place not in self._secrets:
            self._secrets[place] = [
                opened(
                    self._keyring, due.endpoint_tenant, due.endpoint_id, each.version, each.data_key_id, each.envelope
                )
                for each in due.signing
            ]
        return self._secrets[place]

    def _request(self, due: Due, secrets: Sequence[Secret]) -> TokenRequest:
        body = due.event.body.encode()
        signed = sign(Style.STANDARD, secrets, body, now=due.claimed_at, message_id=str(due.event.id))
        headers = (*HEADERS, *(f"{name}: {value}" for name, value in signed.items()))
        return TokenRequest(due, due.url, headers, body, self._deadline, self._deadline)

    def _hear(self) -> bool:
        ended = [self._judge(exchange) for exchange in self._transport.poll(POLL)]
        if ended:
            self._store.end(ended)
        return bool(ended)

    def _judge(self, exchange: Exchange) -> Ended:
        due = exchange.tag
        assert isinstance(due, Due)  # the tag is what _request gave
        status = exchange.status or exchange.seen or None
        if status is not None and 200 <= status < 300:
            return self._end(due, "delivered", "delivered", ZERO, status, None)
        if status == GONE:
            if self._store.disable(due.endpoint_id, "gone"):
                log.warning("endpoint.disabled", endpoint_id=str(due.endpoint_id), reason="gone")
            return self._end(due, "gone", "held", ZERO, status, "gone")
        return self._failed(due, status, exchange.failure or f"http_{status}", exchange.retry_after)

    # ---------------------------------------------------------------------------------------------------------- hooks

    def _call_all(self, until: float) -> bool:
        """Call hooks, one at a time and one at least; returns whether there may be more to call."""
        while self._hooks:
            due = self._store.claim(1, 1, HOOK_LEASE, tuple(self._hooks), None)
            if not due:
                return False
            self._call(due[0])
            if self._monotonic() >= until:
                return True
        return False

    def _call(self, due: Due) -> None:
        hook = (self._hooks or {}).get(due.endpoint_id)
        try:
            if hook is None:
                raise LookupError("the hook is not installed here")
            hook(due.event)
        except Exception as error:  # noqa: BLE001  # whatever their code does, it is a failed attempt
            log.error("hook.failed", hook=due.url, error=type(error).__name__)  # its text may hold anything
            ended = self._failed(due, None, type(error).__name__, None)
        else:
            ended = self._end(due, "delivered", "delivered", ZERO, None, None)
        self._store.end([ended])

    # ----------------------------------------------------------------------------------------------------------- ends

    def _failed(self, due: Due, status: int | None, error: str, retry_after: timedelta | None) -> Ended:
        tried = due.event.type == EventType.PING  # once: who tries an endpoint waits for the answer
        wait = None if tried else after_failure(due.attempt, self._jitter(), retry_after)
        if wait is not None:
            return self._end(due, "retried", "pending", wait, status, error)
        log.error("event.failed", id=str(due.event.id), endpoint_id=str(due.endpoint_id), error=error)
        return self._end(due, "failed", "failed", ZERO, status, error)

    def _end(
        self, due: Due, outcome: str, state: str, wait: timedelta, status: int | None, error: str | None,
        *, begun: bool = True,
    ) -> Ended:  # fmt: skip
        self._outcomes[outcome] += 1
        event_deliveries.labels(outcome).inc()
        return Ended(due.event.id, due.endpoint_id, due.attempt, state, wait, status, error, begun)


def _tell(event: Event) -> None:
    """The log as a channel: one line for each event."""
    subject = event.connection_id or event.credential_id
    log.info("event", id=str(event.id), type=event.type, tenant=event.tenant, subject=subject and str(subject))
