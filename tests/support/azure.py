"""A key of Azure Key Vault on this machine: Microsoft's SDK speaks to it as to theirs.

Of its REST interface it knows what wrapping needs: the challenge, getting a key and a version of it, ``wrapkey`` and
``unwrapkey``. A version that has expired, or is not valid yet, still unwraps; one that was disabled does nothing.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import NamedTuple

from azure.core.credentials import AccessToken
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.faulty import Answer, FaultyServer, Request, trusted
from vault.kms.azure import AzureKey, AzureKms

NAME = "master-key"
TOKEN = "an-access-token-for-key-vault"
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)


class Version(NamedTuple):
    """One version of the key."""

    key: rsa.RSAPrivateKey
    enabled: bool = True
    not_before: int | None = None
    expires: int | None = None


class Credential:
    """Gives a token without asking anybody."""

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


class KeyVault:
    """One key with its versions, the last of them the newest. ``server`` counts and breaks."""

    def __init__(self, server: FaultyServer) -> None:
        self.server = server
        self.versions: dict[str, Version] = {}
        self.shows_disabled = True
        """Whether a disabled version can be read; they are not used in either case."""
        self.forbidden: set[str] = set()
        """What the caller has no right to: ``get``, ``wrapkey``, ``unwrapkey``."""
        self.rotate()

    @property
    def uri(self) -> str:
        return f"https://{self.server.address}"

    @property
    def newest(self) -> str:
        return list(self.versions)[-1]

    def rotate(self) -> str:
        """Make a new version."""
        number = len(self.versions) + 1
        version = f"{number:032x}"
        self.versions[version] = Version(_rsa_key(number))
        return version

    def change(self, version: str, **attributes: object) -> None:
        """Disable a version, let it expire, …"""
        self.versions[version] = self.versions[version]._replace(**attributes)  # type: ignore[arg-type]

    def kek_id(self, version: str) -> str:
        return f"azure-kv:{self.uri}/keys/{NAME}/{version}"

    def answer(self, request: Request) -> Answer:
        """Speak Key Vault's REST interface."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            # The SDK wants the realm to be a parent of the host's name; that of an address has no meaning but is one.
            realm = f'Bearer authorization="https://login.invalid/tenant", resource="{self.uri.replace("127.", "", 1)}"'
            return Answer(401, {"error": {"code": "Unauthorized", "message": "no token"}}, {"WWW-Authenticate": realm})
        kind, name, *more = request.path
        number, operation = [*more, "", ""][:2]
        version = self.versions.get(number or self.newest)
        if kind != "keys" or name.lower() != NAME or version is None:
            return _error(404, "KeyNotFound", "", "a key with that name and version was not found")
        return self._of_version(number or self.newest, version, operation or "get", request.body)

    def _of_version(self, number: str, version: Version, operation: str, body: dict[str, str]) -> Answer:
        if operation in self.forbidden:
            return _error(403, "Forbidden", "ForbiddenByRbac", "the caller may not do that")
        if not version.enabled and not (operation == "get" and self.shows_disabled):
            return _error(403, "Forbidden", "KeyDisabled", "not allowed on a disabled key")
        if operation == "get":
            attributes = {"enabled": version.enabled, "nbf": version.not_before, "exp": version.expires}
            return Answer(200, {"key": {"kid": self._kid(number), "kty": "RSA"}, "attributes": attributes})
        if operation == "wrapkey" and version.not_before is not None and time.time() < version.not_before:
            return _error(403, "Forbidden", "KeyNotYetValid", "not allowed on a key that is not yet valid")
        if operation == "wrapkey" and version.expires is not None and time.time() >= version.expires:
            return _error(403, "Forbidden", "KeyExpired", "not allowed on an expired key")
        if body.get("alg") != "RSA-OAEP-256":
            return _error(400, "BadParameter", "", "algorithm")
        return self._worked(number, version, operation, body)

    def _worked(self, number: str, version: Version, operation: str, body: dict[str, str]) -> Answer:
        value = base64.urlsafe_b64decode(body["value"] + "=" * (-len(body["value"]) % 4))
        try:
            done = {
                "wrapkey": lambda: version.key.public_key().encrypt(value, _OAEP),
                "unwrapkey": lambda: version.key.decrypt(value, _OAEP),
            }[operation]()
        except ValueError:
            return _error(400, "BadParameter", "", "the parameter is incorrect")
        return Answer(200, {"kid": self._kid(number), "value": base64.urlsafe_b64encode(done).decode().rstrip("=")})

    def _kid(self, number: str) -> str:
        return f"{self.uri}/keys/{NAME}/{number}"


def _error(status: int, code: str, inner: str, message: str) -> Answer:
    more = {"innererror": {"code": inner}} if inner else {}
    return Answer(status, {"error": {"code": code, "message": message, **more}})


@cache
def _rsa_key(number: int) -> rsa.RSAPrivateKey:
    """The n-th key: making one takes a moment, so the servers of a process share them."""
    return rsa.generate_private_key(65537, 2048)


@contextmanager
def key_vault() -> Iterator[KeyVault]:
    """A Key Vault with one key of one version."""
    with ExitStack() as stack:
        tls, vaults = stack.enter_context(trusted()), list[KeyVault]()
        server = stack.enter_context(FaultyServer(lambda request: vaults[0].answer(request), tls=tls))
        vaults.append(KeyVault(server))
        yield vaults[0]


@contextmanager
def azure_kms() -> Iterator[AzureKms]:
    """A KMS over a Key Vault of its own."""
    with key_vault() as vault:
        yield AzureKms(AzureKey(vault.uri, NAME, None), credential=Credential())
