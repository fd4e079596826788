"""Events through a real worker, whose queue is emptied again and again: late perhaps, and never lost."""

from __future__ import annotations

import json

import pytest
import redis

from tests.integration.office import accepts
from tests.integration.worker.conftest import System, wait_until
from tests.support.receiver import Receiver
from vault import Maintenance


@pytest.mark.timeout(120)
def test_what_happens_is_told_through_a_worker_though_redis_forgets_everything(system: System) -> None:
    """No beat runs: apps and workers ring, and where the ring is lost the pulse looks."""
    system.environ["VAULT_EVENTS_INTERVAL_S"] = "1"
    with Receiver() as receiver:
        maintenance = Maintenance.from_env(system.environ)
        _, secret = maintenance.events.add_endpoint("default", receiver.url("/hook"))
        ids = system.connect(12)
        worker = system.worker()
        with redis.Redis.from_url(system.redis.url) as client:
            for each in ids:
                system.vault.disconnect(each)
                client.flushall()
        wait_until(lambda: len({got.id for got in receiver.received}) == len(ids), 60, worker.last_words)
        ended = {json.loads(got.body)["data"]["connection_id"] for got in receiver.received}
        assert ended == {str(each) for each in ids}
        assert len({(got.id, got.body) for got in receiver.received}) == len(ids)
        assert all(accepts(secret, got) for got in receiver.received)
        log = worker.log.read_text()
        assert "Task vault.deliver" in log
        assert f"event=event id={receiver.received[0].id}" in log
        maintenance.close()
