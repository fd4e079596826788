"""A worker that is told to end brings home what it sent, and gives back the rest."""

from __future__ import annotations

import time

import pytest

from tests.integration.worker.conftest import STOP_PATIENCE_S, System, wait_until

MANY = 24


@pytest.mark.timeout(120)
def test_sigterm_brings_home_what_was_sent_and_gives_back_the_rest(system: System) -> None:
    """The provider takes its time, and few requests go out at once: most of what is due has not been sent by then."""
    system.connect(MANY)
    environ = {"VAULT_MAX_IN_FLIGHT": "1", "VAULT_REQUEST_DEADLINE_S": "1"}
    worker = system.worker(**environ)
    system.provider.configure("acme", latency=0.5)
    before = len(system.oracle.presented())
    system.make_due()
    wait_until(system.leased, 20, worker.last_words)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < STOP_PATIENCE_S  # nobody had to kill it
    assert "Traceback" not in worker.last_words(100_000)
    sent = system.oracle.presented()
    assert set(sent.values()) == {1}
    assert 0 < len(sent) - before < MANY
    assert system.due() == MANY - (len(sent) - before)
    assert not system.leased()
    assert system.signs() == (False, False)
