"""What becomes of a grant that was got and cannot be kept: the provider is told to forget it, so that nobody has it."""

from __future__ import annotations

import structlog

from vault.engine.sealing import Sealer
from vault.errors import CannotOpen, KeyUnavailable, StoreUnavailable
from vault.jobs import Deliver
from vault.means import Means, first_text, text_of
from vault.model import Answer
from vault.ports import CodeExchange, ConnectionStore, Doorbell, NewGrant
from vault.provider import Provider, Strategy
from vault.secret import Secret

log = structlog.get_logger(__name__)


class GivingBack:
    """Has grants revoked: by the workers, who try again; at once and once, where that cannot be written down."""

    def __init__(self, store: ConnectionStore, exchange: CodeExchange, sealer: Sealer, doorbell: Doorbell) -> None:
        self._store, self._exchange, self._sealer, self._doorbell = store, exchange, sealer, doorbell

    def __call__(self, provider: Provider, grant: NewGrant, answer: Answer, beside: Means, reason: str) -> None:
        """Give a grant back, and say so; nothing is raised, since something else went wrong before.

        Args:
            provider: Whose it is, as the registration that it was given to.
            grant: What it would have become, not sealed.
            answer: Its tokens.
            beside: What its addresses are made of.
            reason: A word, why it is not kept.
        """
        outcome = "later"
        spares_others = provider.revoke_ends_all and reason != "disconnected"
        if provider.revoke_uri is None or provider.strategy is Strategy.OAUTH1 or spares_others:
            outcome = "kept" if spares_others else "no_endpoint"
        elif (noted := self._noted(provider, grant, answer, beside, reason)) is None:
            outcome = self._exchange.revoke(provider, self._secret(provider, answer, beside))
        elif not noted:
            outcome = "stored"
        log.warning("grant.given_back", connection_id=str(grant.connection_id), reason=reason, revoked=outcome)

    def _noted(self, provider: Provider, grant: NewGrant, answer: Answer, beside: Means, reason: str) -> bool | None:
        """Leave it to the workers; False: it is stored after all; None: the keys or the store are what is away."""
        try:
            text = self._secret(provider, answer, beside).reveal()
            if not self._store.give_back(self._sealer.first(grant, answer, text), reason):
                return False
        except (KeyUnavailable, StoreUnavailable, CannotOpen):
            return None
        self._doorbell.ring(Deliver.task, Deliver.lane, None)
        return True

    def _secret(self, provider: Provider, answer: Answer, beside: Means) -> Secret:
        """Return what is revoked: what would have renewed the grant, else the access token."""
        text = first_text(provider, answer, beside)
        return Secret(text or text_of(beside._replace(access_token=answer.access_token.reveal())))
