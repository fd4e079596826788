"""A new KEK: what it costs, with few owners and with a million, beside the calls to the KMS that nobody can do without.

Rewrapping reads tenant keys alone, so the rows of the owners are made by SQL and hold nothing that could be opened.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from tests.benchmarks.keys.aws import LATENCY_S, aws, kek_uri
from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Figure, Section, at_most
from tests.benchmarks.stage import PROVIDER, Stage, server
from tests.support.kms_faults import FaultProxy
from vault import Maintenance
from vault import settings as vault_settings
from vault.kms import open_kms
from vault.kms.local import LocalKms
from vault.wiring import Wiring

TENANTS, FEW, MANY, ROUNDS = 100, 1_000, 1_000_000, 5
_FILL = f"""
CREATE TEMPORARY TABLE seed AS
     SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS key_id, t.tenant, t.id AS tenant_key_id
       FROM generate_series(0, {{rows}} - 1) n JOIN (SELECT tenant, id, row_number() OVER () - 1 AS place
       FROM evergrant.tenant_key) t ON t.place = n % {TENANTS};
INSERT INTO evergrant.data_key (id, tenant, owner, provider, purpose, state, tenant_key_id, wrapped)
     SELECT key_id, tenant, 'owner-' || n, '{PROVIDER}', 'grant', 'current', tenant_key_id,
            decode(repeat('00', 64), 'hex') FROM seed;
INSERT INTO evergrant.connection (id, tenant, owner, provider)
     SELECT id, tenant, 'owner-' || n, '{PROVIDER}' FROM seed;
INSERT INTO evergrant.oauth_grant (connection_id, tenant, status, version, data_key_id, client_id, expires_at,
                                   refreshed_at, stale_at, access_envelope, refresh_envelope)
     SELECT id, tenant, 'active', 1, key_id, 'evergrant', now() + interval '1 day', now(), now() + interval '1 hour',
            decode(repeat('00', 316), 'hex'), decode(repeat('00', 196), 'hex') FROM seed;
"""


class Took(NamedTuple):
    """Seconds of one round."""

    few: float
    many: float
    calls: float
    """As many wraps as there are tenants, one after the other, and nothing else."""


class Keks(NamedTuple):
    """Two KEKs to go to and fro between."""

    here: str
    there: str


def run(effort: Effort) -> list[Section]:
    """Measure."""
    rows = effort.of(MANY, least=FEW)
    with server() as (postgres, home), aws() as kms, ExitStack() as stack:
        near, distant = _keyring_file(home / "keks.json"), Keks(kek_uri(kms), kek_uri(kms, kms.other))
        few, many = (
            _Table(Stage(postgres, home, kek_uri=near.here), count, (*near, *distant)) for count in (FEW, rows)
        )
        stack.callback(few.close)
        stack.callback(many.close)
        sections = [_section("a keyring file", few, many, near, effort, Counter)]
        for table in (few, many):
            table.rewrap(distant.here)
        kms.proxy.latency = LATENCY_S
        away = f"a KMS {LATENCY_S * 1e3:.0f} ms away"
        sections.append(_section(away, few, many, distant, effort, partial(_calls, kms.proxy)))
    return sections


class _Table:
    """One database with so many owners, whose tenants' keys are under the KEK of its stage."""

    def __init__(self, stage: Stage, rows: int, uris: Sequence[str]) -> None:
        self.rows = rows
        wiring = Wiring(vault_settings.load(stage.environment))
        for number in range(TENANTS):
            wiring.keys.keyring.current_tenant_key(f"tenant-{number}")
        wiring.close()
        with stage.connect() as connection:
            with connection.transaction():
                connection.execute("SET LOCAL session_replication_role = replica")  # no foreign keys checked
                connection.execute(_FILL.format(rows=rows).encode())
            connection.execute("VACUUM ANALYZE")
        at_will = {**stage.environment, "VAULT_KEK_FORMER_URIS": ",".join(uris), "VAULT_ROTATION_RATE": "1e9"}
        self._to = {uri: Maintenance.from_env({**at_will, "VAULT_KEK_URI": uri}) for uri in uris}

    def rewrap(self, uri: str) -> float:
        """Bring every tenant under a KEK; returns seconds."""
        began = time.perf_counter()
        done = self._to[uri].rewrap()
        took = time.perf_counter() - began
        if done != TENANTS:
            raise RuntimeError(f"{done} tenant keys were rewrapped instead of {TENANTS}")
        return took

    def close(self) -> None:
        """Close the connections."""
        for maintenance in self._to.values():
            maintenance.close()


def _section(
    where: str, few: _Table, many: _Table, keks: Keks, effort: Effort, calls: Callable[[], Counter[str]]
) -> Section:
    adapters = {uri: open_kms(uri) for uri in keks}
    took, counted = list[Took](), Counter[str]()
    for number in range(effort.of(ROUNDS, least=2)):
        uri = keks[(number + 1) % 2]
        by_few = few.rewrap(uri)
        before = calls()
        by_many = many.rewrap(uri)
        counted = calls() - before
        took.append(Took(by_few, by_many, _wraps(partial(adapters[uri].wrap, bytes(32)))))
    of = Took(*(statistics.median(column) for column in zip(*took, strict=True)))
    told = ", ".join(f"{number} {name}" for name, number in sorted(counted.items())) or "calls are not counted"
    ratio = statistics.median(each.many / each.few for each in took)
    calls_ratio = statistics.median(each.many / each.calls for each in took)
    wraps = [Figure("wraps", counted["Encrypt"], "", goal=at_most(TENANTS, of_value=True))] if counted else []
    figures = [
        Figure(f"{TENANTS} wraps by the KMS, one after the other", of.calls, "s"),
        Figure(f"rewrap of {few.rows:,} owners", of.few, "s"),
        Figure(f"rewrap of {many.rows:,} owners", of.many, "s", ratio, f"{few.rows:,} owners", at_most(1.2), told),
        Figure("… beside the wraps alone", of.many, "s", calls_ratio, "the wraps"),
        *wraps,
    ]
    return Section("keys", f"A new KEK for {TENANTS} tenants, at {where}", figures)


def _wraps(wrap: Callable[[dict[str, str]], object]) -> float:
    began = time.perf_counter()
    for _ in range(TENANTS):
        wrap({"key_id": str(uuid4())})
    return time.perf_counter() - began


def _calls(proxy: FaultProxy) -> Counter[str]:
    return proxy.calls


def _keyring_file(path: Path) -> Keks:
    LocalKms(path, "here").add_key("there")
    return Keks(f"local:{path}#here", f"local:{path}#there")
