"""Every setting, with its default and its unit; read from the environment, checked all at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    PlainSerializer,
    ValidationError,
)

from vault.audit.rows import LEAST_DAYS
from vault.encodings import parse_encryption_key
from vault.errors import ConfigurationError
from vault.model import DEFAULT_TENANT, SYSTEM
from vault.provider import Client
from vault.redirects import is_place, is_redirect_uri
from vault.secret import Secret
from vault.settings.clients import PREFIX, read_clients

ENVIRONMENT_KEK = "env:ENCRYPTION_KEY"
"""Stands for a KEK that is derived from the encryption key."""


def _secret(value: object) -> object:
    return Secret(value) if isinstance(value, str) else value


def _words(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


_HOSTS = re.compile(r"(?:(?:\[[0-9a-fA-F:.%]*\]|[^][,:@]*)(?::[0-9]*)?(?:,|$))*")


def _address(*schemes: str) -> Callable[[Secret], Secret]:
    def check(address: Secret) -> Secret:
        """Refuse an address in which part of a password would be taken for a host or a port, which messages name."""
        if not address:
            raise ValueError("is required")
        scheme, mark, rest = address.reveal().partition("://")
        if not mark or scheme.split("+")[0] not in schemes:
            raise ValueError(f"must begin with {schemes[0]}://")
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        user, _, hosts = authority.rpartition("@")
        if "@" in user + rest[len(authority) :] or not _HOSTS.fullmatch(hosts):
            raise ValueError("cannot be read: write special characters of a password as %XX, and the port as a number")
        return address

    return check


SecretText = Annotated[Secret, BeforeValidator(_secret), PlainSerializer(repr)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Seconds = Annotated[float, Field(gt=0, le=366 * 24 * 3600)]
Rate = Annotated[float, Field(ge=0, le=1_000_000)]


def _pairs(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all("=" in word for word in words):
        raise ValueError("is written as name=value, comma-separated")
    return words


def _networks(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        try:
            ip_network(word)
        except ValueError:
            raise ValueError("is written as networks such as 10.1.0.0/16 or fd00::/8, comma-separated") from None
    return words


def _redirect_uris(uris: tuple[str, ...]) -> tuple[str, ...]:
    if not all(is_redirect_uri(uri) for uri in uris):
        raise ValueError("is written as absolute URIs without a fragment, comma-separated")
    return uris


def _places(uris: tuple[str, ...]) -> tuple[str, ...]:
    if not all(is_place(uri) for uri in uris):
        raise ValueError("is written as https://host or https://host/path, comma-separated")
    return uris


def _tenant(name: str) -> str:
    if name == SYSTEM:
        raise ValueError(f"cannot be {SYSTEM!r}, where what concerns all tenants is kept")
    return name


def _encryption_key(key: Secret) -> Secret:
    parse_encryption_key(key.reveal())
    return key


def _alias(name: str, *others: str) -> Any:
    return AliasChoices(f"{PREFIX}{name}", *others)


GATHERED = frozenset({"clients", "certificates"})
"""Fields that are made of variables of their own, one for each provider."""


class Settings(BaseModel):
    """What can be set. Environment names carry the prefix ``VAULT_``; ``NAME_FILE`` reads a value from a file."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        defer_build=True,  # a third of what importing us costs, for those who only import us
    )

    database_url: Annotated[SecretText, AfterValidator(_address("postgresql", "postgres"))]
    """PostgreSQL, as ``postgresql://user:password@host/database``."""
    redis_url: Annotated[SecretText, AfterValidator(_address("redis", "rediss"))]
    """Redis, as ``redis://host:port/0``: the broker of the workers."""
    home: Path = Path("~/.evergrant")
    """Directory for the local keyring and the spool, when they have no place of their own."""
    spool_dir: Path | None = None
    """Directory for answers on their way; must survive the death of a process. Default: ``spool`` under ``home``."""
    kek_uri: str | None = Field(default=None, validation_alias=_alias("KEK_URI", "KMS_KEY_ID"))
    """Master key, by URI; see docs/kms.md. Default: ``ENCRYPTION_KEY``, else a local keyring under ``home``."""
    kek_former_uris: Words = ()
    """KEKs that may still hold tenant keys, comma-separated URIs: those in use before ``VAULT_KEK_URI`` was changed."""
    encryption_key: Annotated[SecretText, AfterValidator(_encryption_key)] | None = Field(
        default=None, validation_alias=_alias("ENCRYPTION_KEY", "ENCRYPTION_KEY", "TOKEN_ENCRYPTION_KEY")
    )
    """Key of values in the format v1, which it opens; and the master key where ``VAULT_KEK_URI`` is not set."""
    foreign_kek_uri: str | None = None
    """Master key under which another system wrapped the data keys of its ``kms:v2:`` values, by URI."""
    foreign_context: Annotated[Words, AfterValidator(_pairs)] = ()
    """The encryption context it used, as ``name=value``, comma-separated."""
    allow_plaintext: bool = False
    """Let ``decrypt_string()`` hand out values that were never encrypted (v0). Every process that does says so."""
    tenant: Annotated[str, AfterValidator(_tenant)] = DEFAULT_TENANT
    """Tenant this process acts for."""
    providers: Words = ()
    """Files that add or override providers, comma-separated."""
    policies: Words = ()
    """Files with rules that override how long credentials may serve, comma-separated."""
    registrars: Words = ()
    """Files that add or override how the secrets of webhooks are changed at providers, comma-separated."""
    migrations: Words = ()
    """Files that name migrations out of other systems, for workers and `evergrant migrate`; comma-separated."""
    insecure_hosts: Words = ()
    """Hosts that may be spoken to without TLS, wherever they are: for tests on a loopback address only."""
    private_networks: Annotated[Words, AfterValidator(_networks)] = ()
    """Networks that are not public and whose addresses providers and endpoints may have, such as 10.1.0.0/16."""
    redirect_uri: str | None = None
    """Where providers send owners back to, when ``begin()`` is not told."""
    redirect_uris: Annotated[Words, AfterValidator(_redirect_uris)] = ()
    """Other redirect URIs that ``begin()`` may be told, exactly as they are; comma-separated."""
    return_to: Annotated[Words, AfterValidator(_places)] = ()
    """Origins, or paths there, that owners may go to after connecting, beside paths on this site; comma-separated."""

    refresh_threshold: float = Field(
        default=0.9, gt=0, le=1, validation_alias=_alias("REFRESH_THRESHOLD", "TOKEN_REFRESH_THRESHOLD")
    )
    """Share of a token's life after which it is refreshed."""
    refresh_margin_s: Seconds = 300.0
    """Or this many seconds before it ends, whichever is earlier."""
    refresh_fast_tries: int = Field(
        default=3, ge=0, validation_alias=_alias("REFRESH_FAST_TRIES", "TOKEN_REFRESH_MAX_RETRIES")
    )
    """Failures retried quickly before the backoff grows."""
    refresh_retry_delay_s: Seconds = Field(
        default=5.0, validation_alias=_alias("REFRESH_RETRY_DELAY_S", "TOKEN_REFRESH_RETRY_DELAY")
    )
    """First step of the backoff, in seconds."""
    refresh_retry_cap_s: Seconds = 3600.0
    """Longest step of the backoff, in seconds."""
    request_deadline_s: Seconds = 10.0
    """Total time for one request to a provider, in seconds; a claim's lease is three of them."""
    quarantine_wait_s: Seconds = 3600.0
    """Seconds between lonely tries of a connection that seems to kill its worker."""
    inline_refresh: bool = False
    """Let a process without workers refresh by itself."""
    max_in_flight: int = Field(default=512, ge=1, le=4096)
    """Requests to providers at once in one worker process."""
    get_deadline_s: Seconds = 10.0
    """How long ``get()`` waits for a refresh when no live token is stored, in seconds."""

    key_cache_life_s: Annotated[float, Field(gt=0, le=300)] = 300.0
    """How long an unwrapped key is kept, in seconds; this is how long revoking a key takes to work."""
    key_outage_grace_s: Annotated[float, Field(ge=0, le=86_400)] = 3600.0
    """How much longer it is kept while the KMS gives no answer at all, in seconds; 0: not at all."""
    key_cache_size: int = Field(default=10_000, ge=1)
    """Data keys kept unwrapped in one process."""
    key_cache_uses: int = Field(default=1_000_000, ge=1)
    """Uses of an unwrapped data key before it is unwrapped anew."""
    data_key_max_age_days: Annotated[float, Field(gt=0, le=36_600)] = 30.0
    """Age after which a data key is replaced, in days."""
    tenant_key_max_age_days: Annotated[float, Field(gt=0, le=36_600)] = 365.0
    """Age after which a tenant key is replaced, in days."""

    http_key_cache_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long the HTTP face keeps an API key at hand, in seconds; this is how long revoking one takes to work."""
    http_access_log: bool = False
    """Log every request over HTTP, without its query; otherwise those that went wrong."""
    http_rate_tokens: Rate = 100.0
    """Tokens and values that one API key may read in a second; 0: any number. Two seconds' worth is saved up."""
    http_rate_connects: Rate = 5.0
    """Flows that one API key may begin or end in a second; 0: any number."""
    http_rate_introspections: Rate = 100.0
    """Introspections that one API key may ask for in a second; 0: any number."""
    http_rate_others: Rate = 50.0
    """Other requests that one API key may make in a second; 0: any number."""
    http_rate_strangers: Rate = 20.0
    """Requests from one address in a second that look into the database without a known API key; 0: any number."""

    rotation_rate: Annotated[float, Field(gt=0)] = 2000.0
    """Rows a second that one run of a rotation touches at most."""

    events_interval_s: Seconds = 5.0
    """Seconds between looks for events to be sent; workers also ring when something happened."""
    events_retention_days: Annotated[float, Field(gt=0, le=36_600)] = 30.0
    """Age after which events that are on nobody's way any more are removed, in days."""

    scan_interval_s: Seconds = 5.0
    """Seconds between looks for due refreshes, by beat and by the pulse of every worker."""
    rewrap_interval_s: Seconds = 3600.0
    """Seconds between checks for tenant keys under another master key."""
    data_key_interval_s: Seconds = 3600.0
    """Seconds between checks for data keys past their age."""
    tenant_key_interval_s: Seconds = 86_400.0
    """Seconds between checks for tenant keys past their age."""
    credential_interval_s: Seconds = 60.0
    """Seconds between looks for credentials that are to be rotated, and rotations that go on."""
    expiry_interval_s: Seconds = 3600.0
    """Seconds between looks for credentials that end soon."""
    health_interval_s: Seconds = 60.0
    """Seconds between health checks."""
    health_all_interval_s: Seconds = 86_400.0
    """Seconds between looks at all connections."""
    statistics_interval_s: Seconds = 60.0
    """Seconds between additions to the counters; figures are exact at any time."""
    cleanup_interval_s: Seconds = Field(
        default=300.0, validation_alias=_alias("CLEANUP_INTERVAL_S", "TOKEN_CLEANUP_INTERVAL")
    )
    """Seconds between clean-ups."""
    audit_interval_s: Seconds = 60.0
    """Seconds between linkings of what was told to the audit."""
    audit_retention_days: Annotated[float, Field(ge=LEAST_DAYS, le=36_600)] = 400.0
    """Age after which rows of the audit are forgotten, in days; 31 at least, as refreshing needs its memory."""
    session_rounds: int = Field(
        default=12, ge=4, le=16, validation_alias=_alias("SESSION_ROUNDS", "BCRYPT_SALT_ROUNDS")
    )
    """Work that bcrypt does for the token of a session: one more takes twice as long. Less than 10 is for tests."""
    session_life_s: Seconds = 2_592_000.0
    """How long a session lives, in seconds, unless it is said otherwise when it is made."""
    session_per_device: bool = False
    """Let a user have a session on each device, instead of one."""
    session_cache_s: Annotated[float, Field(ge=0, le=60)] = 60.0
    """How long a process remembers that a token was good, in seconds; this is how long revoking one takes to work."""
    scope_rules: Words = ()
    """Files that say what a token must bring for each method of your service, comma-separated."""
    introspection_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the looks at a foreign token known to be good that ask its issuer again."""
    introspection_deadline_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Total time for asking an issuer about a token, in seconds: somebody waits."""
    validation_cache_size: int = Field(default=10_000, ge=1)
    """Tokens of each sort that one process remembers to have validated."""
    database_prepared: bool = True
    """Use prepared statements; off behind PgBouncer in transaction mode."""
    clients: Mapping[str, Client] = Field(default_factory=dict, exclude=True, repr=False)
    """Our registrations by provider, from ``VAULT_CLIENT_<PROVIDER>_ID``, ``_SECRET`` and ``_SECRET_FORMER``."""
    certificates: Mapping[str, UUID] = Field(default_factory=dict, exclude=True)
    """Credentials whose client certificates requests are made with, from ``VAULT_CLIENT_<PROVIDER>_CERTIFICATE``."""
    ca_file: FilePath | None = None
    """PEM file with the authorities that vouch for providers, instead of those the system trusts."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the settings; see ``load``."""
        return load(environ, **overrides)

    @property
    def home_path(self) -> Path:
        """The directory for local files, with ``~`` resolved."""
        return self.home.expanduser()

    @property
    def spool_path(self) -> Path:
        """The directory of the spool."""
        return self.spool_dir or self.home_path / "spool"

    @property
    def master_key_uri(self) -> str:
        """The KEK in use, by URI: the one that is named, or else the encryption key, or else a local keyring."""
        return self.kek_uri or (ENVIRONMENT_KEK if self.encryption_key else self._local_keyring)

    @property
    def former_kek_uris(self) -> tuple[str, ...]:
        """Where keys may still be wrapped: where it is said, and wherever we would have wrapped with less said."""
        less_said = [ENVIRONMENT_KEK] if self.encryption_key else []
        if (self.home_path / "keyring.json").exists():
            less_said.append(self._local_keyring)
        uris = dict.fromkeys((*self.kek_former_uris, *less_said))
        return tuple(uri for uri in uris if uri != self.master_key_uri)

    @property
    def _local_keyring(self) -> str:
        return f"local:{self.home_path / 'keyring.json'}"

    @property
    def scan_interval(self) -> timedelta:
        """How often due rows are looked for."""
        return timedelta(seconds=self.scan_interval_s)


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings. Raises ``ConfigurationError`` with every problem at once.

    Args:
        environ: where to read; the process's environment by default.
        overrides: values by field name that win over the environment.
    """
    source = os.environ if environ is None else environ
    problems: list[str] = []
    values = _with_files(source, problems)
    unread = {problem.partition(": ")[0] for problem in problems}
    clients, certificates = read_clients(values, problems)
    given = {name: value for name, value in _fields(values).items() if name not in overrides}
    try:
        settings = Settings.model_validate({**given, "clients": clients, "certificates": certificates, **overrides})
    except ValidationError as error:
        problems.extend(_problem(dict(detail)) for detail in error.errors(include_input=False, include_url=False))
    if problems:
        raise ConfigurationError([p for p in problems if f"{p.partition(': ')[0]}_FILE" not in unread])
    return settings


def environment_names(field: str) -> tuple[str, ...]:
    """Return the environment names of a field, ours first."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (f"{PREFIX}{field.upper()}",)


def _fields(values: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in Settings.model_fields:
        for name in environment_names(field):
            if field not in GATHERED and name in values:
                found[field] = values[name]
                break
    return found


def _problem(detail: Mapping[str, Any]) -> str:
    field = str(detail["loc"][0]) if detail["loc"] else "settings"
    name = environment_names(field)[0] if field in Settings.model_fields else field
    message = "is required" if detail["type"] == "missing" else str(detail["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}"


def _with_files(environ: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Return our part of the environment, with ``NAME_FILE`` replaced by what the file holds."""
    known = {name for field in Settings.model_fields for name in environment_names(field)}
    values = {n: v for n, v in environ.items() if n in known or n.startswith(f"{PREFIX}CLIENT_")}
    for name, path in environ.items():
        target = name.removesuffix("_FILE")
        if target == name or not (target in known or target.startswith(f"{PREFIX}CLIENT_")):
            continue
        values.pop(name, None)
        try:
            values[target] = Path(path).read_text().strip()
        except OSError as error:
            problems.append(f"{name}: the file cannot be read ({error.strerror})")
            values.pop(target, None)
        except UnicodeDecodeError:
            problems.append(f"{name}: the file cannot be read (it is not text)")
            values.pop(target, None)
    return values
