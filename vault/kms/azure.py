"""Azure Key Vault, or a Managed HSM: an RSA key that never leaves it wraps and unwraps.

We ask the service for every wrapping, through the pipeline of Microsoft's SDK. Its typed calls would wrap with the
public key on this machine, where a key that was disabled or has expired would show only at the next unwrap, and would
look a key up before they unwrap.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from vault.errors import CannotOpen, ConfigurationError, KeyUnavailable
from vault.forks import in_children
from vault.kms.binding import bind, unbind
from vault.kms.reasons import by_status, key_unavailable
from vault.ports import WrappedKey

SCHEME: Final = "azure-kv:"
ALGORITHM: Final = "RSA-OAEP-256+AES-256-GCM"
CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 3.0
"""For one request, and a wrapping is two at most: under ten seconds in all. Key Vault answers within one as a rule."""
LOOKUP_LIFE_S: Final = 60.0
"""How long the newest version of a key is taken to be the newest: a rotation is noticed within a minute."""
SIGN_IN_TIMEOUT_S: Final = 5
"""For a credential that has another program give the token: Azure's command line takes a second or two to start."""

_LIMITS: Final[Mapping[str, Any]] = {
    "connection_timeout": CONNECT_TIMEOUT_S,
    "read_timeout": READ_TIMEOUT_S,
    "retry_total": 0,  # whoever asks us tries again later; the SDK would sleep as long as Retry-After says
    "permit_redirects": False,  # a token and a secret are for this vault alone
}
_KEY = re.compile(
    r"https://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?P<port>:[0-9]{1,5})?"
    r"/keys/(?P<name>[A-Za-z0-9-]{1,127})(?:/(?P<version>[A-Za-z0-9]{1,64}))?"
)
_REFUSALS: Final[Mapping[str, str]] = {
    "KeyDisabled": "disabled",
    "KeyExpired": "expired",
    "KeyNotYetValid": "not_yet_valid",
}


class AzureKey(NamedTuple):
    """Which key, and perhaps which version of it."""

    vault: str
    """``https://`` and the host, in small letters."""
    name: str
    version: str | None

    def uri(self) -> str:
        """Return where it is, as Key Vault writes it."""
        return "/".join([self.vault, "keys", self.name, *([self.version] if self.version else [])])

    def kek_id(self) -> str:
        """Name it as a KEK."""
        return SCHEME + self.uri()

    def same_key(self, other: AzureKey) -> bool:
        """Whether that is a version of the same key; Key Vault tells no small letter from a capital."""
        return (self.vault, self.name.lower()) == (other.vault, other.name.lower())


class AzureKms:
    """Wraps under an RSA key by RSA-OAEP-256, with the context bound by us. Thread-safe; connects at its first use."""

    def __init__(
        self,
        key: AzureKey,
        *,
        credential: Any = None,
        random: Callable[[int], bytes] = os.urandom,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take up the SDK; nothing is asked yet.

        Args:
            key: With a version, that one wraps; without, the newest. Every version of the key unwraps.
            credential: A ``TokenCredential`` of Azure's SDK; None makes a ``DefaultAzureCredential``.
            random: Gives that many unpredictable bytes.
            monotonic: Seconds that never go back.

        Raises:
            ConfigurationError: The packages of the extra ``azure`` are not installed.
        """
        try:
            from azure.identity import DefaultAzureCredential
            from azure.keyvault.keys import KeyClient
        except ImportError:
            raise ConfigurationError(["a KEK in azure-kv: needs pip install 'evergrant[azure]'"]) from None
        own = partial(DefaultAzureCredential, process_timeout=SIGN_IN_TIMEOUT_S, **_LIMITS)
        self._connect: Callable[[], Any] = lambda: KeyClient(key.vault, credential or own(), **_LIMITS)
        self._key, self._random, self._monotonic = key, random, monotonic
        self._newest: tuple[AzureKey, float] | None = None
        self._begin_anew()
        in_children(self._begin_anew)

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap 32 bytes under the version in use, bound to ``context``. Raises ``KeyUnavailable``."""
        version = self._version_in_use()
        try:
            kek_id, ciphertext = bind(key, context, partial(self._wrap_secret, version), self._random)
        except KeyUnavailable:
            self._newest = None  # perhaps another version is the newest by now
            raise
        return WrappedKey(kek_id, ALGORITHM, ciphertext)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Give the key back.

        Raises:
            KeyUnavailable: It is under another key, or Key Vault does not answer or refuses.
            CannotOpen: The context is another one, or the ciphertext is damaged.
        """
        version = self._our_version(wrapped.kek_id)
        if version is None:
            raise key_unavailable(wrapped.kek_id, "not_held")
        if wrapped.algorithm != ALGORITHM:
            raise CannotOpen
        return unbind(wrapped.ciphertext, wrapped.kek_id, context, partial(self._operate, version, "unwrapkey"))

    def describe(self) -> str:
        """Name the version new keys are wrapped under, in full. Raises ``KeyUnavailable``."""
        return self._version_in_use().kek_id()

    def holds(self, kek_id: str) -> bool:
        """Whether this is a version of our key; asks nobody."""
        return self._our_version(kek_id) is not None

    def _our_version(self, kek_id: str) -> AzureKey | None:
        version = _parse(kek_id.removeprefix(SCHEME)) if kek_id.startswith(SCHEME) else None
        return version if version is not None and version.version and self._key.same_key(version) else None

    def _version_in_use(self) -> AzureKey:
        """The version the URI names, or the newest, looked up once a minute."""
        if self._key.version is not None:
            return self._key
        newest = self._newest
        if newest is None or self._monotonic() >= newest[1]:
            ends = self._monotonic() + LOOKUP_LIFE_S
            newest = self._newest = (self._look_up(), ends)
        return newest[0]

    def _look_up(self) -> AzureKey:
        answer = self._ask(self._key, "GET", "")
        found = _parse(_text(answer, "key", "kid"))
        if found is None or not found.version:
            raise key_unavailable(self._key.kek_id(), "unavailable")
        return self._key._replace(version=found.version)

    def _wrap_secret(self, version: AzureKey, secret: bytes) -> tuple[str, bytes]:
        return version.kek_id(), self._operate(version, "wrapkey", secret)

    def _operate(self, version: AzureKey, operation: str, value: bytes) -> bytes:
        answer = self._ask(version, "POST", f"/{operation}", {"alg": "RSA-OAEP-256", "value": _base64url(value)})
        value = _from_base64url(_text(answer, "value"))
        if not value:
            raise key_unavailable(version.kek_id(), "unavailable")
        return value

    def _ask(self, key: AzureKey, method: str, operation: str, body: Mapping[str, str] | None = None) -> object:
        """Send one request, and return the JSON of the answer if Key Vault did what it was asked."""
        from azure.core.exceptions import AzureError
        from azure.core.rest import HttpRequest

        request = HttpRequest(method, f"{key.uri()}{operation}", json=body)
        try:
            response = self._client.send_request(request)
            status, answer = response.status_code, _json(response.text())
            reason = _REFUSALS.get(_text(answer, "error", "innererror", "code")) or by_status(status)
        except AzureError as error:
            status, answer, reason = 0, None, _reason(error)
        except ValueError:  # the server wants us to sign in for a realm that is not that of its own name
            status, answer, reason = 0, None, "denied"
        except RecursionError:  # JSON deeper than Python goes
            status, answer, reason = 0, None, "unavailable"
        # Raised out here: an error of the SDK holds the request and the secret in it, and must not be our context.
        if status == 200:
            return answer
        raise CannotOpen if (status, operation) == (400, "/unwrapkey") else key_unavailable(key.kek_id(), reason)

    def _begin_anew(self) -> None:
        """In a child, connections are the parent's."""
        self._client = self._connect()
        self._newest = None


def open_azure(rest: str) -> AzureKms:
    """Open the key that ``https://VAULT/keys/NAME`` or ``https://VAULT/keys/NAME/VERSION`` names.

    Raises:
        ConfigurationError: It reads differently, or the extra ``azure`` is not installed.
    """
    key = _parse(rest)
    if key is None:
        raise ConfigurationError(
            ["a KEK URI of this kind must read azure-kv:https://MYVAULT.vault.azure.net/keys/NAME, or …/NAME/VERSION"]
        )
    return AzureKms(key)


def _parse(uri: str) -> AzureKey | None:
    found = _KEY.fullmatch(uri)
    if found is None:
        return None
    port = found["port"] if found["port"] not in (None, ":443") else ""
    return AzureKey(f"https://{found['host'].lower()}{port}", found["name"], found["version"])


def _reason(error: Exception) -> str:
    """Say why there was no answer, or no token to ask with."""
    from azure.core import exceptions as azure

    if isinstance(error, azure.ServiceRequestTimeoutError | azure.ServiceResponseTimeoutError):
        return "timeout"
    status = getattr(error, "status_code", None)
    if status is not None:
        return by_status(status)
    return "no_token" if isinstance(error, azure.ClientAuthenticationError) else "unavailable"


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _text(answer: object, *path: str) -> str:
    """Return a text of a JSON document; an empty one when there is none in that place."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer if isinstance(answer, str) else ""


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    """Read it back; nothing when it cannot be read."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
