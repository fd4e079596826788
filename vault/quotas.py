"""How often something may be done: token buckets in Redis that processes share, or here while Redis is away."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from threading import Lock
from typing import Any, Final

from vault.forks import in_children
from vault.metrics import http_limits_local
from vault.secret import Secret

SAVED_S: Final = 2.0
"""What is not used is saved up for so long: a bucket holds this many seconds of its rate, and one at least."""
LOT_S: Final = 0.1
"""So much of a rate is fetched at once, so that Redis is asked ten times a second for a bucket, not each time."""
LOT_LIFE_S: Final = 1.0
"""What of a lot has not been used by then is let go of."""
TIMEOUT_S: Final = 0.1
AWAY_S: Final = 5.0
"""For so long Redis is not asked again after it did not answer."""
MOST: Final = 10_000

_TAKE: Final = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local rate, size, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 't', 'a')
local tokens, at = tonumber(kept[1]) or size, tonumber(kept[2]) or now
tokens = math.min(size, tokens + math.max(0, now - at) * rate)
local given = math.min(wanted, math.floor(tokens))
tokens = tokens - given
redis.call('HSET', KEYS[1], 't', tostring(tokens), 'a', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000) + 1000)
return {given, tostring((1 - tokens) / rate)}
"""


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens, self.at = tokens, at


class SharedQuota:
    """``Quota`` in Redis, with buckets of this process's own while that is away. Thread-safe."""

    def __init__(self, redis_url: Secret, monotonic: Callable[[], float]) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._error, self._monotonic = redis.RedisError, monotonic
        client: Any = redis.Redis.from_url(
            redis_url.reveal(), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._client, self._script = client, client.register_script(_TAKE)
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock, self._away_until = Lock(), 0.0
        self._lots = OrderedDict[str, _Bucket]()
        self._own = OrderedDict[str, _Bucket]()

    def take_at_hand(self, bucket: str, rate: float) -> bool:
        """See ``Quota.take_at_hand``."""
        now = self._monotonic()
        with self._lock:
            lot = self._lots.get(bucket)
            if lot is not None and lot.tokens >= 1 and now - lot.at <= LOT_LIFE_S:
                lot.tokens -= 1
                return True
            return now < self._away_until and self._take_own(bucket, rate, now) is None

    def take(self, bucket: str, rate: float) -> timedelta | None:
        """See ``Quota.take``."""
        now = self._monotonic()
        if now >= self._away_until:
            try:
                return self._fetch(bucket, rate)
            except (self._error, OSError):
                self._away_until = self._monotonic() + AWAY_S
        http_limits_local.inc()
        with self._lock:
            return self._take_own(bucket, rate, now)

    def _fetch(self, bucket: str, rate: float) -> timedelta | None:
        size, lot = _size(rate), max(1, int(rate * LOT_S))
        given, wait = self._script(keys=[f"evergrant:quota:{bucket}"], args=[rate, size, lot])
        if given < 1:
            return timedelta(seconds=max(0.001, float(wait)))
        with self._lock:
            now = self._monotonic()
            before = self._lots.get(bucket)  # what others who asked at the same time have fetched
            kept = before.tokens if before is not None and now - before.at <= LOT_LIFE_S else 0.0
            _keep(self._lots, bucket, _Bucket(kept + float(given) - 1, now))
        return None

    def _take_own(self, bucket: str, rate: float, now: float) -> timedelta | None:
        own = self._own.get(bucket)
        if own is None:
            own = _Bucket(_size(rate), now)
            _keep(self._own, bucket, own)
        own.tokens, own.at = min(_size(rate), own.tokens + (now - own.at) * rate), now
        if own.tokens < 1:
            return timedelta(seconds=(1 - own.tokens) / rate)
        own.tokens -= 1
        return None

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _size(rate: float) -> float:
    return max(1.0, rate * SAVED_S)


def _keep(among: OrderedDict[str, _Bucket], name: str, bucket: _Bucket) -> None:
    among[name] = bucket
    among.move_to_end(name)
    if len(among) > MOST:
        among.popitem(last=False)
