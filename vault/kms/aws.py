"""A KMS at AWS."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.kms.aws_clients import AwsClients, default_region, unlogged
from vault.kms.aws_errors import failure, is_about_credentials, unreadable
from vault.kms.aws_uri import SCHEME, Arn, KeyUri, in_region, read_uri
from vault.ports import Kms, WrappedKey

ALGORITHM: Final = "SYMMETRIC_DEFAULT"
"""AWS's name for AES-256-GCM under a KMS key."""
KEY_SIZE: Final = 32
CIPHERTEXT_LIMIT: Final = 6144
"""Bytes AWS takes for decryption; more is not sent."""
RESOLUTION_LIFE_S: Final = 60.0
"""How long ``describe`` repeats which key an alias names: so late is an alias that was pointed elsewhere noticed."""
DETOUR_LIFE_S: Final = 30.0
"""How long a replica that answered is asked first, before the key's own region is tried again."""

T = TypeVar("T")
_Answer = Mapping[str, Any]
_Read = Callable[[_Answer, str], T | None]


def open_aws(rest: str) -> Kms:
    """Open the key a URI names after ``aws-kms:``; see ``aws_uri``. Nothing is asked of AWS yet.

    Raises:
        ConfigurationError: The URI cannot work; it lists every problem.
    """
    return AwsKms(read_uri(rest, _default_region))


class AwsKms:
    """Wraps keys under a symmetric key in AWS KMS, bound to the context as AWS's encryption context.

    When the key's region fails, its replicas are asked. A wrapping is recorded under the key's ARN in its own region,
    whichever answered, for replicas share their key material and a detour is not another KEK. Thread-safe.
    """

    def __init__(self, uri: KeyUri, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Nothing is opened or asked.

        Args:
            uri: The key and where it is.
            monotonic: Seconds of a clock that never goes back.
        """
        import boto3  # noqa: F401 - here and not at the first call, where callers would wait for it

        self._uri, self._monotonic = uri, monotonic
        self._name = f"{SCHEME}{uri.key}"
        self._owner = uri.owner
        self._in_use: tuple[Arn, float] | None = None
        self._clients = AwsClients(uri.endpoint, monotonic)
        self._route = Route(uri.regions, monotonic)

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap 32 bytes under the KEK in use, bound to ``context``. Raises ``KeyUnavailable``."""
        request = {"Plaintext": key, "EncryptionContext": dict(context)}
        arn, ciphertext = self._ask("encrypt", self._uri.key, self._name, self._read_encrypted, request)
        self._remember(arn)
        return WrappedKey(f"{SCHEME}{arn}", ALGORITHM, ciphertext)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Give the key back.

        Raises:
            KeyUnavailable: KMS refuses or does not answer, or the KEK is not this URI's: nobody is asked then.
            CannotOpen: The context is another one, the ciphertext is damaged, or it holds something else than a key.
        """
        if self._owner is None and self._uri.names_alias:
            self.describe()  # an alias is of our own account, which the answer says
        if not self.holds(wrapped.kek_id):
            raise KeyUnavailable(wrapped.kek_id, "not_held", transient=False)
        if wrapped.algorithm != ALGORITHM or not 0 < len(wrapped.ciphertext) <= CIPHERTEXT_LIMIT:
            raise CannotOpen
        arn = wrapped.kek_id.removeprefix(SCHEME)
        request = {"CiphertextBlob": wrapped.ciphertext, "EncryptionContext": dict(context)}
        key = self._ask("decrypt", arn, wrapped.kek_id, partial(_read_decrypted, arn), request)
        if len(key) != KEY_SIZE:
            # KMS vouches for it: this was sealed under our KEK and context, and is none of our keys. That is not an
            # answer garbled on the way, which might be another next time.
            raise CannotOpen
        return key

    def describe(self) -> str:
        """Name the KEK new keys are wrapped under, in full, without any secret. Raises ``KeyUnavailable``."""
        if self._in_use is not None and self._monotonic() < self._in_use[1]:
            return f"{SCHEME}{self._in_use[0]}"
        arn = self._ask("describe_key", self._uri.key, self._name, self._read_described, {})
        self._remember(arn)
        return f"{SCHEME}{arn}"

    def holds(self, kek_id: str) -> bool:
        """Whether a wrapping under this KEK may be sent to AWS; asks nobody.

        It may under the URI's key and its replicas, and under any key of an alias's region and account.
        """
        scheme, mark, arn = kek_id.partition(":")
        return scheme + mark == SCHEME and self._uri.covers(Arn.read(arn), self._owner)

    def _remember(self, arn: Arn) -> None:
        self._owner, self._in_use = arn.owner, (arn, self._monotonic() + RESOLUTION_LIFE_S)

    # --------------------------------------------------------------------------------------------------- asking

    def _ask(self, operation: str, key: str, name: str, read: _Read[T], request: Mapping[str, object]) -> T:
        """Ask region after region until one answers. A refusal by the key's own is final, as is a wrong ciphertext."""
        home, failed = self._uri.regions[0], dict[str, KeyUnavailable]()
        for region in self._route.regions():
            answer = self._ask_in(region, operation, name, {"KeyId": in_region(key, region), **request})
            found = read(answer, region) if isinstance(answer, Mapping) else None
            if found is not None:
                self._route.answered(region)
                return found
            problem = answer if isinstance(answer, Exception) else unreadable(name)
            if isinstance(problem, CannotOpen) or (region == home and not problem.transient):
                raise problem
            failed[region] = problem
        raise failed[home]

    def _ask_in(
        self, region: str, operation: str, name: str, request: Mapping[str, object]
    ) -> _Answer | CannotOpen | KeyUnavailable:
        """Ask one region. A failure is returned, for an error raised where boto's is handled would carry that along."""
        try:
            with unlogged():
                answer: _Answer = getattr(self._clients.client(region), operation)(**request)
                return answer
        except Exception as error:  # noqa: BLE001 - boto's parsers fail in whatever way Python does at a strange answer
            if is_about_credentials(error):
                self._clients.renew()
            return failure(error, operation, name)

    # -------------------------------------------------------------------------------------------------- reading

    def _read_encrypted(self, answer: _Answer, region: str) -> tuple[Arn, bytes] | None:
        arn, ciphertext = self._read_name(answer.get("KeyId"), region), answer.get("CiphertextBlob")
        return (arn, ciphertext) if arn and isinstance(ciphertext, bytes) and ciphertext else None

    def _read_described(self, answer: _Answer, region: str) -> Arn | None:
        about = answer.get("KeyMetadata")
        return self._read_name(about.get("Arn"), region) if isinstance(about, Mapping) else None

    def _read_name(self, name: object, region: str) -> Arn | None:
        """The key that answered, by its name at home, if it is one that can be ours."""
        arn = Arn.read(name)
        if arn is None or arn.region != region:
            return None
        at_home = arn._replace(region=self._uri.regions[0])
        return at_home if self._uri.covers(at_home, self._owner) else None


def _read_decrypted(arn: str, answer: _Answer, region: str) -> bytes | None:
    key = answer.get("Plaintext")
    return key if isinstance(key, bytes) and answer.get("KeyId") == in_region(arn, region) else None


class Route:
    """In which order regions are asked: the key's own first, unless another answered in its place a moment ago.

    Nothing is locked: two callers at the same moment cost a detour more or less.
    """

    def __init__(self, regions: tuple[str, ...], monotonic: Callable[[], float]) -> None:
        self._regions, self._monotonic = regions, monotonic
        self._detour: _Detour | None = None

    def regions(self) -> tuple[str, ...]:
        """Every region, the most hopeful first."""
        detour = self._detour
        if detour is None:
            return self._regions
        if self._monotonic() >= detour.ends:
            # This caller tries the key's own region again; meanwhile the others need not wait with it.
            self._detour = detour._replace(ends=self._monotonic() + DETOUR_LIFE_S)
            return self._regions
        return detour.region, *(region for region in self._regions if region != detour.region)

    def answered(self, region: str) -> None:
        """Take note of who answered."""
        if region == self._regions[0]:
            self._detour = None
        elif self._detour is None or self._detour.region != region:
            self._detour = _Detour(region, self._monotonic() + DETOUR_LIFE_S)


class _Detour(NamedTuple):
    region: str
    ends: float


def _default_region() -> str | None:
    try:
        return default_region()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with boto's own files
        problem = type(error).__name__
    raise ConfigurationError([f"boto3 cannot read its configuration ({problem}): check AWS_PROFILE and ~/.aws/config"])
