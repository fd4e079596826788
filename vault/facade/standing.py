"""How things stand: the part of both faces that asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from vault.facade.ids import read_id
from vault.model import checked_tenant
from vault.ports import Miscounted
from vault.services.health import Health
from vault.settings import Settings
from vault.standing.condition import ConnectionHealth, HealthSummary
from vault.standing.figures import Statistics
from vault.wiring import Wiring

INSPECTION_BUDGET = timedelta(seconds=30)
"""A task looks at connections for so long, then makes room; another one goes on."""


def _tell_nobody(_: object) -> None: ...


class StandingCalls:
    """What an app may know of its own tenant."""

    tenant: str
    _wiring: Wiring

    def statistics(self) -> Statistics:
        """Count what this tenant has. Cheap, whatever is stored. Raises ``StoreUnavailable``."""
        self._wiring.validation.counts.hand_in()
        return self._wiring.counting.read(self.tenant)

    def connection_health(self, connection_id: UUID | str) -> ConnectionHealth:
        """Say how a connection is, from what its last refreshes left behind; nobody's provider is asked.

        Raises:
            UnknownConnection: This tenant has no such connection.
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        return self._wiring.inspecting.one(self.tenant, read_id(connection_id))


class StandingWork:
    """What workers and operators may know, and what they do for it."""

    settings: Settings
    _wiring: Wiring

    def statistics(self, tenant: str | None = None) -> Statistics:
        """Count what all tenants have, or one. Cheap, whatever is stored: counters are kept, and work is indexed."""
        return self._wiring.counting.read(None if tenant is None else checked_tenant(tenant))

    def fold_statistics(self) -> int:
        """Add the differences that writers left behind to the counters; returns how many there were.

        Figures are exact without it; reading costs what there are of these. Any number may run at a time.
        """
        return self._wiring.counting.fold()

    def recount_statistics(self) -> Sequence[Miscounted]:
        """Count every row anew and mend the counters, beside whoever is writing; returns what was wrong."""
        return self._wiring.counting.recount()

    def health_check(self) -> Health:
        """Look at every part of the system."""
        return self._wiring.health.check()

    def health_check_all(
        self,
        tenant: str | None = None,
        budget: timedelta | None = None,
        progress: Callable[[HealthSummary], object] = _tell_nobody,
        *,
        anew: bool = False,
    ) -> HealthSummary:
        """Look at all connections, page by page; the result of the last whole look is kept for ``statistics()``.

        Args:
            tenant: Only this one's.
            budget: After so long no further page is begun; None: until all were looked at.
            progress: Told after each page.
            anew: From the first one; else a look that was begun, by whomever, is gone on with.

        Returns:
            What was found; ``ended_at`` is None if the budget was not enough, and another call goes on from there.
        """
        return self._wiring.inspecting.every(tenant, budget, progress, anew=anew)

    def health_check_slice(self, budget: timedelta = INSPECTION_BUDGET) -> bool:
        """Do a part of what ``VAULT_HEALTH_ALL_INTERVAL_S`` wants done; returns whether there is more."""
        return self._wiring.inspecting.slice(timedelta(seconds=self.settings.health_all_interval_s), budget)

    def unfinished_health_check(self) -> bool:
        """Whether a look at all connections was begun and has not ended: somebody is at it, or was."""
        return self._wiring.inspecting.unfinished()

    def sign_of_life(self, node: str, silence: timedelta) -> None:
        """Say that a worker lives: for ``health_check()``, until it has been silent for so long."""
        self._wiring.signs.sign(node, silence)

    def sign_off(self, node: str) -> None:
        """Say that a worker ends."""
        self._wiring.signs.sign_off(node)
