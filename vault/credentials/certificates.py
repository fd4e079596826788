"""Client certificates: read, ordered, and held against their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from vault.errors import InvalidCredential

CERTIFICATE: Final = "client_certificate"
PRIVATE_KEY: Final = "client_private_key"
LONGEST_CHAIN: Final = 10
SHORTEST_RSA: Final = 2048
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class Certificate(NamedTuple):
    """A certificate with its chain, the leaf first."""

    pem: str
    expires_at: datetime
    """The first end in the chain: from then on nobody accepts it."""
    facts: Mapping[str, str]


def read(pem: str) -> Certificate:
    """Read a certificate and what follows it, each of which must have signed the one before.

    Raises:
        InvalidCredential: It is no PEM, no chain, or too long.
    """
    try:
        chain = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidCredential(CERTIFICATE, "it is no PEM with certificates in it") from None
    if len(chain) > LONGEST_CHAIN:
        raise InvalidCredential(CERTIFICATE, f"its chain has more than {LONGEST_CHAIN} certificates")
    if "PRIVATE KEY" in pem:
        raise InvalidCredential(CERTIFICATE, "there is a private key in it: give that as the key, to be kept by itself")
    _check_order(chain)
    leaf = chain[0]
    kept = "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)
    return Certificate(kept, min(each.not_valid_after_utc for each in chain), _facts(leaf, len(chain)))


def read_key(pem: str, password: str | None = None) -> str:
    """Read a private key; returns it as unencrypted PKCS #8, to be sealed.

    Raises:
        InvalidCredential: It is no key that TLS clients use, or needs (another) password.
    """
    try:
        key = load_pem_private_key(pem.encode(), password.encode() if password else None)
    except TypeError:
        problem = (
            "it is encrypted: give its password" if password is None else "it is not encrypted: leave the password"
        )
        raise InvalidCredential(PRIVATE_KEY, problem) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidCredential(
            PRIVATE_KEY, "it is no PEM with one private key in it, or its password is wrong"
        ) from None
    if not isinstance(key, _Key):
        raise InvalidCredential(PRIVATE_KEY, "RSA, ECDSA and EdDSA keys are taken")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SHORTEST_RSA:
        raise InvalidCredential(PRIVATE_KEY, f"an RSA key has {SHORTEST_RSA} bits at least")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def check_pair(certificate: str, key: str) -> None:
    """Raise ``InvalidCredential`` unless the key is the certificate's."""
    leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
    private = load_pem_private_key(key.encode(), None)
    wanted, found = (
        each.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for each in (leaf.public_key(), private.public_key())
    )
    if wanted != found:
        raise InvalidCredential(CERTIFICATE, "the key is another certificate's")


def _check_order(chain: Sequence[x509.Certificate]) -> None:
    for signed, signer in pairwise(chain):
        try:
            signed.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature):
            raise InvalidCredential(CERTIFICATE, "its chain is not in order: each signs the one before it") from None


def _facts(leaf: x509.Certificate, length: int) -> Mapping[str, str]:
    return {
        "subject": leaf.subject.rfc4514_string(),
        "issuer": leaf.issuer.rfc4514_string(),
        "serial": f"{leaf.serial_number:x}",
        "sha256": leaf.fingerprint(SHA256()).hex(),
        "not_before": leaf.not_valid_before_utc.isoformat(),
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "chain": str(length),
    }
