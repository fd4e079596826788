"""Certificates as a bank's authority would give them: a leaf and who signed it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


class Made(NamedTuple):
    """A certificate with its chain, and its key; both PEM."""

    chain: str
    key: str


@cache
def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return _signed("An Authority", key, "An Authority", key, days=3650, authority=True), key


def _signed(
    name: str, key: ec.EllipticCurvePrivateKey, signer: str, by: ec.EllipticCurvePrivateKey, *, days: float,
    authority: bool, names: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:  # fmt: skip
    now = datetime.now(UTC)
    subject, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, signer))
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=days))
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.add_extension(x509.BasicConstraints(authority, None), critical=True).sign(by, SHA256())


def leaf(name: str, *, days: float) -> Made:
    """A client's certificate that ends in so many days, followed by its authority's."""
    authority, by = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(name, key, "An Authority", by, days=days, authority=False)
    chain = "".join(each.public_bytes(Encoding.PEM).decode() for each in (certificate, authority))
    return Made(chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def authority() -> str:
    """Who signed all of them."""
    return _authority()[0].public_bytes(Encoding.PEM).decode()


def server(address: str) -> Made:
    """What a server at an address shows."""
    of_it = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    signer, by = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    made = _signed(address, key, "An Authority", by, days=1, authority=False, names=of_it)
    chain = "".join(each.public_bytes(Encoding.PEM).decode() for each in (made, signer))
    return Made(chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def reversed_chain(chain: str) -> str:
    """The authority first."""
    end = "-----END CERTIFICATE-----\n"
    return "".join(each + end for each in reversed(chain.split(end)[:-1]))


def encrypted(key: str, password: str) -> str:
    """The same key, behind a password."""
    private = load_pem_private_key(key.encode(), None)
    way = BestAvailableEncryption(password.encode())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, way).decode()


@cache
def short_rsa_key() -> str:
    """A key that was long enough once."""
    key = rsa.generate_private_key(65537, 1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
