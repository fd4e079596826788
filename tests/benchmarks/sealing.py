"""`seal`: one value sealed and opened, beside bare AES-GCM and beside the usual tools."""

from __future__ import annotations

import os
import uuid

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.benchmarks.measure import Call, Effort, interleaved
from tests.benchmarks.report import Figure, Section, at_least, at_most
from vault.envelope import DataKey, context, open_envelope, seal

VALUE = os.urandom(1024).hex().encode()


def run(effort: Effort) -> list[Section]:
    """Measure."""
    timings = interleaved(_contenders(), calls=effort.of(100), rounds=15, lap=50)
    sealing, opening = timings["seal"].median, timings["open"].median
    figures = [
        Figure("bare AES-GCM encrypt", timings["aes encrypt"].median, "µs"),
        Figure("bare AES-GCM decrypt", timings["aes decrypt"].median, "µs"),
        Figure("seal", sealing, "µs", sealing / timings["aes encrypt"].median, "bare", at_most(5, of_value=True)),
        Figure("open", opening, "µs", opening / timings["aes decrypt"].median, "bare", at_most(5, of_value=True)),
    ]
    for name, ours, verb in (("Fernet encrypt", sealing, "seal"), ("Fernet decrypt", opening, "open")):
        figures.append(Figure(name, timings[name].median, "µs", timings[name].median / ours, verb, at_least(4)))
    return [Section("seal", "Sealing and opening 2 KB: record key, commitment, AES-256-GCM", figures)]


def _contenders() -> dict[str, Call]:
    key = DataKey(uuid.uuid4(), os.urandom(32))
    bound = context("default", uuid.uuid4(), "access_token")
    envelope = seal(key, VALUE, bound, 7)
    bare, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    ciphertext = bare.encrypt(nonce, VALUE, bound)
    fernet = Fernet(Fernet.generate_key())
    token = fernet.encrypt(VALUE)
    return {
        "aes encrypt": lambda: bare.encrypt(os.urandom(12), VALUE, bound),
        "aes decrypt": lambda: bare.decrypt(nonce, ciphertext, bound),
        "seal": lambda: seal(key, VALUE, bound, 7),
        "open": lambda: open_envelope(key, envelope, bound, 7),
        "Fernet encrypt": lambda: fernet.encrypt(VALUE),
        "Fernet decrypt": lambda: fernet.decrypt(token),
    }
