"""`keys`: what keys cost. Calls to the KMS, rewrapping and sweeping; how long the slowest wait; what the cache saves.

The KMS is AWS's as far as the adapter can tell: boto3, over HTTP on this machine, to moto behind the proxy of the
tests, which counts the calls and answers none before the latency named.
"""

from __future__ import annotations

from tests.benchmarks.keys import calls, rewrapping, sweeping, waits
from tests.benchmarks.measure import Effort
from tests.benchmarks.report import Section


def run(effort: Effort) -> list[Section]:
    """Measure."""
    return [*calls.run(effort), *rewrapping.run(effort), *waits.run(effort), *sweeping.run(effort)]
