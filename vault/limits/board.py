"""What processes tell each other of providers, through Redis: buckets, breakers, and whose turn it is to probe.

Nothing here is needed: while Redis is away, or slow, each process goes by what it knows itself, and looks again later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard

import structlog

from vault.forks import in_children
from vault.secret import Secret

log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 0.2
PATIENCE_S: Final = 5.0
"""After a failure Redis is left alone for so long."""
PREFIX: Final = "evergrant:gate:"
_WITHDRAW: Final = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local rate, slice = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = slice
if known[1] then
  tokens = math.min(slice, tonumber(known[1]) + math.max(0, at - tonumber(known[2])) * rate)
end
local granted = math.floor(tokens)
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - granted), 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * (slice / rate + 60)))
return granted
"""
"""A bucket of one slice, which fills at the rate, by Redis's own clock."""


class Board(Protocol):
    """See ``RedisBoard``."""

    def withdraw(self, name: str, rate: float, slice_: int) -> int | None:
        """Take up to a slice out of a bucket; None: nobody knows."""

    def shut(self, key: str, seconds: float, pauses: int) -> None:
        """Tell that a breaker is open for so long, and the how-manieth time in a row."""

    def open(self, key: str) -> None:
        """Tell that a breaker is closed again."""

    def look(self, keys: Sequence[str]) -> Mapping[str, tuple[float, int]] | None:
        """For each breaker that is open how many seconds more, and its pauses; None: nobody knows."""

    def may_probe(self, key: str, seconds: float) -> bool:
        """Whether a probe is ours to send: for so long nobody else's is."""

    def spare(self, key: str) -> None:
        """A probe told nothing: another may go."""


class NoBoard:
    """For a process by itself."""

    def withdraw(self, name: str, rate: float, slice_: int) -> int | None:  # noqa: ARG002
        """See ``Board.withdraw``."""
        return None

    def shut(self, key: str, seconds: float, pauses: int) -> None:
        """See ``Board.shut``."""

    def open(self, key: str) -> None:
        """See ``Board.open``."""

    def look(self, keys: Sequence[str]) -> None:  # noqa: ARG002
        """See ``Board.look``."""
        return None  # noqa: RET501  # it is an answer

    def may_probe(self, key: str, seconds: float) -> bool:  # noqa: ARG002
        """See ``Board.may_probe``."""
        return True

    def spare(self, key: str) -> None:
        """See ``Board.spare``."""


class RedisBoard:
    """``Board`` in Redis; nothing is opened before the first question, nor kept across a fork."""

    def __init__(self, redis_url: Secret, monotonic: Callable[[], float]) -> None:
        self._url, self._monotonic = redis_url, monotonic
        self._begin_anew()
        in_children(self._begin_anew)

    def _begin_anew(self) -> None:
        self._client: Any = None
        self._withdraw: Any = None
        self._ask_at = 0.0
        self._away = False

    def withdraw(self, name: str, rate: float, slice_: int) -> int | None:
        """See ``Board.withdraw``."""
        found = self._asked(lambda redis: self._script(redis)(keys=[f"{PREFIX}rate:{name}"], args=[rate, slice_]))
        return None if found is None else int(found)

    def shut(self, key: str, seconds: float, pauses: int) -> None:
        """See ``Board.shut``; a longer pause that is told already stays."""
        name, milliseconds = f"{PREFIX}shut:{key}", max(1, int(seconds * 1000))

        def tell(redis: Any) -> None:
            redis.delete(f"{PREFIX}probe:{key}")
            if redis.pttl(name) < milliseconds:
                redis.set(name, pauses, px=milliseconds)

        self._asked(tell)

    def open(self, key: str) -> None:
        """See ``Board.open``."""
        self._asked(lambda redis: redis.delete(f"{PREFIX}shut:{key}", f"{PREFIX}probe:{key}"))

    def look(self, keys: Sequence[str]) -> Mapping[str, tuple[float, int]] | None:
        """See ``Board.look``; one round trip."""

        def read(redis: Any) -> dict[str, tuple[float, int]]:
            with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.get(f"{PREFIX}shut:{key}").pttl(f"{PREFIX}shut:{key}")
                said = pipe.execute()
            pairs = zip(keys, said[::2], said[1::2], strict=True)
            return {key: (left / 1000, int(pauses)) for key, pauses, left in pairs if left > 0 and _is_number(pauses)}

        found: Mapping[str, tuple[float, int]] | None = self._asked(read)
        return found

    def may_probe(self, key: str, seconds: float) -> bool:
        """See ``Board.may_probe``; while nobody knows, everybody may."""
        name = f"{PREFIX}probe:{key}"
        mine = self._asked(lambda redis: redis.set(name, 1, nx=True, px=max(1, int(seconds * 1000))) is not None)
        return mine is not False

    def spare(self, key: str) -> None:
        """See ``Board.spare``."""
        self._asked(lambda redis: redis.delete(f"{PREFIX}probe:{key}"))

    def _script(self, redis: Any) -> Any:
        if self._withdraw is None:
            self._withdraw = redis.register_script(_WITHDRAW)
        return self._withdraw

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        """Ask Redis; None: it is away, and was left alone if it had been a moment ago."""
        if self._monotonic() < self._ask_at:
            return None
        import redis

        try:
            if self._client is None:
                self._client = redis.Redis.from_url(
                    self._url.reveal(), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None
                )
            answer = question(self._client)
        except redis.RedisError as error:
            self._ask_at = self._monotonic() + PATIENCE_S
            if not self._away:
                self._away = True
                log.warning("gate.alone", error=type(error).__name__)
            return None
        if self._away:
            self._away = False
            log.info("gate.together")
        return answer


def _is_number(said: object) -> TypeGuard[bytes]:
    """Whether a count that is kept there is one: others may write to that Redis."""
    return isinstance(said, bytes) and said.isdigit() and len(said) < 10
