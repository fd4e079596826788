"""The transit engine of HashiCorp Vault or OpenBao: a key of any kind that never leaves it encrypts and decrypts.

What says who we are is a token: in the file that ``VAULT_TOKEN_FILE`` names, read anew for every call since an agent
renews it, or else in ``VAULT_TOKEN``. Certificates are checked against ``VAULT_CACERT`` where that is set.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

import requests

from vault.errors import CannotOpen, ConfigurationError
from vault.forks import in_children
from vault.kms.binding import SECRET_SIZE, bind, unbind
from vault.kms.contexts import canonical
from vault.kms.reasons import by_status, key_unavailable
from vault.ports import WrappedKey
from vault.secret import Secret

SCHEME: Final = "vault-transit:"
ALGORITHM: Final = "vault-transit+AES-256-GCM"
CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0
"""Every call is one request: seven seconds in all. A key in an HSM behind Vault may take one or two of them."""

_LABEL = b"evergrant transit context 1"
_NO_KIND = "existing-keys-only"
"""Said to be the kind of key to make, if there is none of that name: a token with the right to create keys would have a
mistyped name create one. No server knows this kind; none looks at it where the key exists."""
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_URI = re.compile(
    rf"(?P<server>(?P<scheme>https?)://(?P<host>{_HOST})(?::[0-9]{{1,5}})?)"
    rf"/(?P<mount>{_PART}(?:/{_PART})*)/(?P<name>{_PART})(?:\?namespace=(?P<namespace>{_PART}(?:/{_PART})*))?"
)
_CIPHERTEXT = re.compile(r"vault:v(?P<version>[1-9][0-9]{0,8}):[A-Za-z0-9+/]{1,32000}={0,2}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)")
_TOKEN = re.compile(r"[!-~]{1,8192}")  # nothing that would end a header
_WITHOUT_KEY: Final = (
    ("encryption key not found", "not_found"),
    ("unknown key type", "not_found"),  # it wanted to make one, see above
    ("(too old)", "disabled"),  # under min_decryption_version
    ("version is too new", "not_found"),
    ("soft-deleted", "disabled"),
)
"""What transit says, with status 400, of a key that is not there or may not be used; from the sources of both."""
_DAMAGED_UNDER_RSA: Final = "failed to RSA decrypt"
"""What it says, with status 500, of a ciphertext that an RSA key does not open."""


class TransitKey(NamedTuple):
    """Where a key is."""

    server: str
    """Scheme, host and port."""
    mount: str
    name: str
    namespace: str | None = None

    def kek_id(self, version: str | None = None) -> str:
        """Name it in full."""
        path = "/".join([self.server, self.mount, self.name, *([f"v{version}"] if version else [])])
        return f"{SCHEME}{path}" + (f"?namespace={self.namespace}" if self.namespace else "")


class TransitKms:
    """Encrypts under the newest version of a transit key, with the context bound by us. Thread-safe."""

    def __init__(
        self, key: TransitKey, token: Callable[[], Secret | None], *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Take up the client; nothing is asked yet.

        Args:
            key: Its newest version wraps, every version the server still decrypts with unwraps.
            token: Gives the token to ask with, at every call; None when there is none at present.
            random: Gives that many unpredictable bytes.

        Raises:
            ConfigurationError: The packages of the extra ``transit`` are not installed.
        """
        try:
            import hvac  # type: ignore[import-untyped]  # comes without types
            from hvac.adapters import RawAdapter  # type: ignore[import-untyped]
        except ImportError:
            raise ConfigurationError(["a KEK in vault-transit: needs pip install 'evergrant[transit]'"]) from None
        self._connect: Callable[[], Any] = lambda: hvac.Client(
            key.server,
            token="",  # or it would look for one in places that we do not name
            namespace=key.namespace,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,  # a token and a secret are for this server alone
            adapter=RawAdapter,
            ignore_exceptions=True,  # its exceptions lack the status
        )
        self._key, self._token, self._random = key, token, random
        head, _, tail = key.kek_id(" ").partition(" ")
        self._ours = re.compile(f"{re.escape(head)}[1-9][0-9]{{0,8}}{re.escape(tail)}")
        self._begin_anew()
        in_children(self._begin_anew)

    def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap 32 bytes under the newest version, bound to ``context``. Raises ``KeyUnavailable``."""
        kek_id, ciphertext = bind(key, context, partial(self._encrypt, context), self._random)
        return WrappedKey(kek_id, ALGORITHM, ciphertext)

    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """Give the key back.

        Raises:
            KeyUnavailable: It is under another key, or the server does not answer or refuses.
            CannotOpen: The context is another one, or the ciphertext is damaged.
        """
        if not self.holds(wrapped.kek_id):
            raise key_unavailable(wrapped.kek_id, "not_held")
        if wrapped.algorithm != ALGORITHM:
            raise CannotOpen
        return unbind(wrapped.ciphertext, wrapped.kek_id, context, partial(self._decrypt, wrapped.kek_id, context))

    def describe(self) -> str:
        """Name the version new keys are wrapped under, in full. Raises ``KeyUnavailable``.

        The server encrypts zeros for us, and says with which version: this needs no right that wrapping does not need.
        """
        return self._encrypt({}, bytes(SECRET_SIZE))[0]

    def holds(self, kek_id: str) -> bool:
        """Whether this is a version of our key; asks nobody."""
        return self._ours.fullmatch(kek_id) is not None

    def _encrypt(self, context: Mapping[str, str], secret: bytes) -> tuple[str, bytes]:
        kek_id, plaintext = self._key.kek_id(), base64.b64encode(secret).decode()
        text = self._ask("encrypt_data", "ciphertext", kek_id, context, plaintext=plaintext, type=_NO_KIND)
        found = _CIPHERTEXT.fullmatch(text)
        if found is None:
            raise key_unavailable(kek_id, "unavailable")
        return self._key.kek_id(found["version"]), text.encode()

    def _decrypt(self, kek_id: str, context: Mapping[str, str], ciphertext: bytes) -> bytes:
        text = ciphertext.decode("ascii", errors="replace")
        found = _CIPHERTEXT.fullmatch(text)
        if found is None or self._key.kek_id(found["version"]) != kek_id:
            raise CannotOpen
        plaintext = self._ask("decrypt_data", "plaintext", kek_id, context, ciphertext=text)
        if not _BASE64.fullmatch(plaintext):
            raise key_unavailable(kek_id, "unavailable")
        return base64.b64decode(plaintext)

    def _ask(self, verb: str, wanted: str, kek_id: str, context: Mapping[str, str], **body: str) -> str:
        """Return a text of the answer, if the server did what it was asked."""
        # Keys that derive a key from each context want one; others do not look at it.
        bound_to = base64.b64encode(canonical(_LABEL, self._key.kek_id(), context)).decode()
        response = self._send(verb, kek_id, {**body, "context": bound_to})
        answer, status = _json(response), response.status_code
        if status == 200:
            text = answer.get("data", {}).get(wanted) if isinstance(answer.get("data"), dict) else None
            return text if isinstance(text, str) else ""
        said = str(answer.get("errors"))
        reason = next((reason for words, reason in _WITHOUT_KEY if status == 400 and words in said), None)
        if verb == "decrypt_data" and reason is None and (status == 400 or _DAMAGED_UNDER_RSA in said):
            raise CannotOpen
        raise key_unavailable(kek_id, reason or by_status(status))

    def _send(self, verb: str, kek_id: str, body: Mapping[str, str]) -> requests.Response:
        token, client = self._token(), self._client
        if token is None:
            raise key_unavailable(kek_id, "no_token")
        client.token = token.reveal()
        try:
            response: requests.Response = getattr(client.secrets.transit, verb)(
                self._key.name, mount_point=self._key.mount, **body
            )
        except requests.Timeout:
            reason = "timeout"
        except requests.RequestException:
            reason = "unavailable"
        else:
            return response
        # Raised out here: an error of the client holds the request and the secret in it, and must not be our context.
        raise key_unavailable(kek_id, reason)

    def _begin_anew(self) -> None:
        """In a child, connections are the parent's."""
        self._client = self._connect()


def open_transit(rest: str, environ: Mapping[str, str] = os.environ) -> TransitKms:
    """Open the key that ``https://SERVER/MOUNT/NAME`` names, with the token the environment gives.

    Raises:
        ConfigurationError: It reads differently, there is no token, or the extra ``transit`` is not installed.
    """
    problems = []
    key, token = _parse(rest), _token_source(environ)
    if key is None:
        problems.append(
            "a KEK URI of this kind must read vault-transit:https://SERVER:8200/MOUNT/NAME, or …/NAME?namespace=NS; "
            "http:// only for this machine itself"
        )
    if token is None:
        problems.append("a KEK in vault-transit: needs a token: set VAULT_TOKEN_FILE, or VAULT_TOKEN")
    if key is None or token is None:
        raise ConfigurationError(problems)
    return TransitKms(key, token)


def _parse(uri: str) -> TransitKey | None:
    found = _URI.fullmatch(uri)
    if found is None or (found["scheme"] == "http" and not _loopback(found["host"].strip("[]"))):
        return None
    server = found["server"].lower().removesuffix(":443" if found["scheme"] == "https" else ":80")
    return TransitKey(server, found["mount"], found["name"], found["namespace"])


def _loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _token_source(environ: Mapping[str, str]) -> Callable[[], Secret | None] | None:
    if path := environ.get("VAULT_TOKEN_FILE"):
        return partial(_token_in, Path(path).absolute())
    token = _token(environ.get("VAULT_TOKEN", ""))
    return (lambda: token) if token is not None else None


def _token_in(file: Path) -> Secret | None:
    try:
        return _token(file.read_text())
    except (OSError, UnicodeDecodeError):
        return None


def _token(text: str) -> Secret | None:
    token = text.strip()
    return Secret(token) if _TOKEN.fullmatch(token) else None


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
