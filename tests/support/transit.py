"""A transit engine on this machine: hvac speaks to it as to HashiCorp Vault's or OpenBao's.

It knows encrypting and decrypting, several versions, keys that derive one from each context, RSA keys, and what either
server says when something is amiss: their words are in the sources of the engine (``builtin/logical/transit``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.faulty import Answer, FaultyServer, Request, trusted
from vault.kms.transit import TransitKey, TransitKms
from vault.secret import Secret

MOUNT, NAME = "team/transit", "master-key"
TOKEN = "hvs.a-token-for-transit"
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)


class Refused(Exception):
    """The engine says no, with a status and in its words."""

    def __init__(self, status: int, words: str) -> None:
        self.answer = Answer(status, {"errors": [words]})


class Transit:
    """One key of an engine mounted at ``MOUNT``, its versions numbered from 1. ``server`` counts and breaks."""

    def __init__(self, server: FaultyServer, scheme: str) -> None:
        self.server, self.uri = server, f"{scheme}://{server.address}"
        self.token = TOKEN
        self.namespace: str | None = None
        self.keys: list[bytes | rsa.RSAPrivateKey] = [os.urandom(32)]
        self.derived = False
        """Whether the key is only the root of a key for each context."""
        self.min_decryption_version = 1
        self.exists, self.soft_deleted, self.sealed = True, False, False
        self.may_create = False
        """Whether the token may make keys, as a policy with ``create`` lets it."""
        self.forbidden: set[str] = set()
        """What the policy does not let the token do: ``encrypt``, ``decrypt``."""
        self.context = ""
        """The context of the last call, base64."""

    def kek_id(self, version: int) -> str:
        return f"vault-transit:{self.uri}/{MOUNT}/{NAME}/v{version}"

    def rotate(self) -> None:
        """Make a new version."""
        self.keys.append(os.urandom(32))

    def answer(self, request: Request) -> Answer:
        """Speak transit's HTTP interface."""
        if self.sealed:
            return Answer(503, {"errors": ["Vault is sealed"]})
        if request.headers.get("X-Vault-Namespace") != self.namespace or request.path[:3] != ("v1", *MOUNT.split("/")):
            return Answer(404, {"errors": ["no handler for route"]})
        operation, name = request.path[3:]
        if request.headers.get("X-Vault-Token") != self.token or operation in self.forbidden:
            return Answer(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
        try:
            return Answer(200, {"data": self._done(operation, name, request.body)})
        except Refused as refused:
            return refused.answer

    def _done(self, operation: str, name: str, body: dict[str, str]) -> dict[str, object]:
        self.context = body.get("context", "")
        if not self.exists or name != NAME:
            if operation == "encrypt" and self.may_create:
                if body.get("type", "aes256-gcm96") != "aes256-gcm96":
                    raise Refused(400, f"unknown key type {body['type']}")
                self.exists, self.keys = True, [os.urandom(32)]
            else:
                raise Refused(400, "encryption key not found")
        if self.soft_deleted:
            raise Refused(400, "refusing to use soft-deleted key")
        if operation == "encrypt":
            version = len(self.keys)
            ciphertext = self._encrypt(version, base64.b64decode(body["plaintext"]))
            return {"ciphertext": f"vault:v{version}:{_base64(ciphertext)}", "key_version": version}
        return {"plaintext": _base64(self._decrypt(body["ciphertext"]))}

    def _encrypt(self, version: int, plaintext: bytes) -> bytes:
        key = self.keys[version - 1]
        if isinstance(key, rsa.RSAPrivateKey):
            return key.public_key().encrypt(plaintext, _OAEP)
        nonce = os.urandom(12)
        return nonce + AESGCM(self._for_context(key)).encrypt(nonce, plaintext, None)

    def _decrypt(self, text: str) -> bytes:
        found = re.fullmatch(r"vault:v(\d+):(.*)", text)
        if found is None:
            raise Refused(400, "invalid ciphertext: no prefix")
        version = int(found[1])
        if version > len(self.keys):
            raise Refused(400, "invalid ciphertext: version is too new")
        if version < self.min_decryption_version:
            raise Refused(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            ciphertext = base64.b64decode(found[2])  # as lax as theirs
        except ValueError:
            raise Refused(400, "invalid ciphertext: could not decode base64") from None
        return self._opened(self.keys[version - 1], ciphertext)

    def _opened(self, key: bytes | rsa.RSAPrivateKey, ciphertext: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            try:
                return key.decrypt(ciphertext, _OAEP)
            except ValueError:
                raise Refused(500, "1 error occurred:\n\t* failed to RSA decrypt the ciphertext: …\n\n") from None
        try:
            return AESGCM(self._for_context(key)).decrypt(ciphertext[:12], ciphertext[12:], None)
        except (InvalidTag, ValueError):
            raise Refused(400, "cipher: message authentication failed") from None

    def _for_context(self, key: bytes) -> bytes:
        if not self.derived:
            return key
        if not self.context:
            raise Refused(400, "missing 'context' for key derivation; the key was created using a derived key, …")
        return hmac.new(key, base64.b64decode(self.context), hashlib.sha256).digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@contextmanager
def transit_engine(scheme: str = "http") -> Iterator[Transit]:
    """A transit engine with one key of one version; by ``https`` with a certificate that clients believe."""
    with ExitStack() as stack:
        tls, engines = stack.enter_context(trusted()), list[Transit]()
        server = FaultyServer(lambda request: engines[0].answer(request), tls=tls if scheme == "https" else None)
        engines.append(Transit(stack.enter_context(server), scheme))
        yield engines[0]


@contextmanager
def transit_kms() -> Iterator[TransitKms]:
    """A KMS over a transit engine of its own."""
    with transit_engine() as engine:
        yield TransitKms(TransitKey(engine.uri, MOUNT, NAME), lambda: Secret(TOKEN))
