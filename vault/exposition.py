"""All metrics as Prometheus reads them, of this process or of many."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from vault.metrics import CACHE_HIT_RATE, http_requests, http_seconds

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
_LOOKUPS: Final = "evergrant_kms_key_cache_total"


class _WithHitRate(Collector):
    """What another collector finds, and the hit rate that follows from it."""

    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, the rate last; with no look-up yet there is none."""
        found = {"hit": 0.0, "miss": 0.0}
        for family in self._inner.collect():
            for sample in family.samples:
                if sample.name == _LOOKUPS:
                    found[sample.labels["result"]] += sample.value
            yield family
        total = sum(found.values())
        if total:
            rate = GaugeMetricFamily(CACHE_HIT_RATE, "Share of look-ups of data keys that the cache answered.")
            rate.add_metric([], found["hit"] / total)
            yield rate


class _Everything(Collector):
    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        if self._directory:
            collector: Collector = MultiProcessCollector(CollectorRegistry(), path=self._directory)  # type: ignore[no-untyped-call]
            return collector.collect()
        return REGISTRY.collect()


def registry(directory: str | None = None) -> CollectorRegistry:
    """Return a registry of everything.

    Args:
        directory: Where processes put their metrics; default ``PROMETHEUS_MULTIPROC_DIR``, and without that the
            metrics of this process alone.
    """
    everything = CollectorRegistry()
    everything.register(_WithHitRate(_Everything(directory or os.environ.get(DIRECTORY))))
    return everything


def metrics_text() -> str:
    """Write everything in Prometheus's text format."""
    return generate_latest(registry()).decode()


def serve_metrics(host: str, port: int) -> tuple[WSGIServer, Thread]:
    """Serve ``/metrics`` from a thread until the server is shut down; port 0 chooses a free one."""
    return start_http_server(port, addr=host, registry=registry())


def count_request(endpoint: str, status: int, seconds: float) -> None:
    """Count a request over HTTP.

    Args:
        endpoint: Its template, never its address.
        status: What it was answered with.
        seconds: How long that took.
    """
    http_requests.labels(endpoint, str(status)).inc()
    http_seconds.labels(endpoint).observe(seconds)
