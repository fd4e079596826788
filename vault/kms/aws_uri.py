"""What stands after ``aws-kms:`` in a KEK URI: which key, in which regions, asked where.

arn:aws:kms:REGION:ACCOUNT:key/ID    a key                        ?region=REGION
arn:aws:kms:REGION:ACCOUNT:alias/A   whatever the alias names     &endpoint=https://kms.{region}.api.aws
ID, mrk-ID                           a key of our account         &replicas=REGION,REGION
alias/A                              an alias of our account
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from vault.errors import ConfigurationError

SCHEME: Final = "aws-kms:"
PARAMETERS: Final = ("endpoint", "region", "replicas")
REGION_MARK: Final = "{region}"
"""Stands in ``endpoint`` for the region that is asked."""

_REGION = r"[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY_ID = rf"{_UUID}|mrk-(?:[0-9a-f]{{32}}|{_UUID})"
_ALIAS = r"alias/[A-Za-z0-9/_-]{1,250}"
_ARN = re.compile(rf"arn:(aws[a-z-]*):kms:({_REGION}):([0-9]{{12}}):(key/(?:{_KEY_ID})|{_ALIAS})")
_SHOWN = re.compile(r"[\w:/.-]{0,200}")
"""What a message may repeat of a URI that cannot be read: nothing that looks like a password before a host."""


class Arn(NamedTuple):
    """The full name of a key or an alias at AWS."""

    partition: str
    region: str
    account: str
    resource: str
    """``key/ID`` or ``alias/NAME``."""

    @classmethod
    def read(cls, text: object) -> Arn | None:
        """Read the ARN of a key or an alias; anything else is none."""
        found = _ARN.fullmatch(text) if isinstance(text, str) else None
        return cls(*found.groups()) if found else None

    def __str__(self) -> str:
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:{self.resource}"

    @property
    def is_key(self) -> bool:
        """Whether it names a key itself."""
        return self.resource.startswith("key/")

    @property
    def owner(self) -> tuple[str, str]:
        """Whose it is: partition and account."""
        return self.partition, self.account


class KeyUri(NamedTuple):
    """A KEK URI that can work."""

    key: str
    """As KMS is asked for it: an ARN, a key id, or ``alias/NAME``."""
    regions: tuple[str, ...]
    """The region whose key it is, then its replicas in the order in which they are asked."""
    endpoint: str | None = None

    @property
    def names_alias(self) -> bool:
        """Whether the key behind it can change."""
        return self._resource.startswith("alias/")

    @property
    def owner(self) -> tuple[str, str] | None:
        """Whose key it is, when the URI says."""
        arn = Arn.read(self.key)
        return arn.owner if arn else None

    @property
    def _resource(self) -> str:
        arn = Arn.read(self.key)
        return arn.resource if arn else self.key if self.key.startswith("alias/") else f"key/{self.key}"

    def covers(self, arn: Arn | None, owner: tuple[str, str] | None) -> bool:
        """Whether this may be the URI's key, now or at another time.

        An alias may have named every key of its region and owner: pointing it elsewhere is how one rotates by hand. A
        key of another owner is never covered, since nobody but its owner knows who else can use it.

        Args:
            arn: The key.
            owner: Whose the URI's key is, as far as that is known.
        """
        if arn is None or not arn.is_key or (owner is not None and arn.owner != owner):
            return False
        if self.names_alias:
            return arn.region == self.regions[0]
        return arn.resource == self._resource and arn.region in self.regions

    def key_in(self, region: str) -> str:
        """The key, or its replica, as one region knows it."""
        return in_region(self.key, region)


def in_region(key: str, region: str) -> str:
    """Name the replica of a key in a region; what is not an ARN is named alike everywhere."""
    arn = Arn.read(key)
    return str(arn._replace(region=region)) if arn else key


def read_uri(rest: str, default_region: Callable[[], str | None]) -> KeyUri:
    """Read what stands after ``aws-kms:``.

    Args:
        rest: The key, and its parameters after a question mark.
        default_region: Asked only when the URI does not say.

    Raises:
        ConfigurationError: With every problem at once.
    """
    key, _, query = rest.removeprefix("//").partition("?")
    arn, pairs = Arn.read(key), parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    replicas = tuple(given["replicas"].split(",")) if "replicas" in given else ()
    region = (arn.region if arn else None) or given.get("region") or default_region()
    shown = f"{SCHEME}{key}" if _SHOWN.fullmatch(key) else SCHEME
    problems = [
        *_about_key(key), *_about_parameters([name for name, _ in pairs]), *_about_region(arn, given, region),
        *_about_endpoint(given.get("endpoint"), replicas), *_about_replicas(key, region, replicas, given),
    ]  # fmt: skip
    if problems or region is None:
        raise ConfigurationError([f"KEK URI {shown!r}: {problem}" for problem in problems])
    return KeyUri(key, (region, *replicas), given.get("endpoint"))


def _about_key(key: str) -> Iterator[str]:
    if not Arn.read(key) and not re.fullmatch(rf"{_KEY_ID}|{_ALIAS}", key):
        yield "names no key: write a key ARN, an alias ARN, a key id (in small letters), or alias/NAME"


def _about_parameters(names: list[str]) -> Iterator[str]:
    for name in sorted({name for name in names if name not in PARAMETERS}):
        yield f"unknown parameter {name[:32]!r}; known: {', '.join(PARAMETERS)}"
    for name in PARAMETERS:
        if names.count(name) > 1:
            yield f"{name}= is given more than once"


def _about_region(arn: Arn | None, given: Mapping[str, str], region: str | None) -> Iterator[str]:
    if region is None:
        yield "says no region, and boto3 knows none: add ?region=REGION, write a full ARN, or set AWS_DEFAULT_REGION"
    elif not re.fullmatch(_REGION, region):
        yield f"{region[:32]!r} is no region, such as eu-central-1"
    elif arn and given.get("region", arn.region) != arn.region:
        yield f"the ARN is of region {arn.region}, but region= says another: leave region= away"


def _about_endpoint(endpoint: str | None, replicas: tuple[str, ...]) -> Iterator[str]:
    if endpoint is None:
        return
    try:
        parts = urlsplit(endpoint.replace(REGION_MARK, "region"))
        host, _ = parts.hostname, parts.port  # a port that is none is found here
    except ValueError:
        yield "endpoint= cannot be read: write https://HOST or https://HOST:PORT"
        return
    if not host or "@" in parts.netloc or parts.query or parts.fragment:
        yield "endpoint= must read https://HOST or https://HOST:PORT, without user or password"
    elif parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        yield "endpoint= must be https:// (http:// only for a loopback address)"
    if replicas and REGION_MARK not in endpoint:
        yield f"endpoint= must hold {REGION_MARK} when there are replicas, or all would be asked at one place"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _about_replicas(key: str, region: str | None, replicas: tuple[str, ...], given: Mapping[str, str]) -> Iterator[str]:
    if "replicas" not in given:
        return
    if not key.rpartition("/")[2].startswith("mrk-"):
        yield "replicas= wants a multi-Region key by id or ARN (mrk-…): no other has any, and an alias cannot say"
    for each in replicas:
        if not re.fullmatch(_REGION, each):
            yield f"replicas= names {each[:32]!r}, which is no region: write REGION,REGION"
    if region in replicas or len(set(replicas)) < len(replicas):
        yield "replicas= names a region twice, or the key's own"
