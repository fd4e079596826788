"""`seal`: one value sealed and opened, beside bare AES-GCM and beside the usual tools."""

from __future__ import annotations

import os
import uuid
from itertools import cycle

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.benchmarks.measure import Call, Effort, interleaved
from tests.benchmarks.report import Figure, Section, at_least, at_most
from vault.envelope import DataKey, context, open_envelope, seal

VALUE = os.urandom(1024).hex().encode()


def run(effort: Effort) -> list[Section]:
    """Measure."""
    timings = interleaved(_contenders(), calls=effort.of(100), rounds=15, lap=50)
    figures = [
        Figure("bare AES-GCM encrypt", timings["aes encrypt"].median, "µs"),
        Figure("bare AES-GCM decrypt", timings["aes decrypt"].median, "µs"),
    ]
    for name, bare in (("seal", "aes encrypt"), ("open", "aes decrypt"), ("open again", "aes decrypt")):
        ours = timings[name]
        figures.append(Figure(name, ours.median, "µs", ours.beside(timings[bare]), "bare", at_most(5, of_value=True)))
    for name, verb in (("Fernet encrypt", "seal"), ("Fernet decrypt", "open")):
        peer = timings[name]
        figures.append(Figure(name, peer.median, "µs", peer.beside(timings[verb]), verb, at_least(4)))
    return [Section("seal", "Sealing and opening 2 KB: record key, commitment, AES-256-GCM", figures)]


def _contenders() -> dict[str, Call]:
    raw, key_id = os.urandom(32), uuid.uuid4()
    key, again = DataKey(key_id, raw), DataKey(key_id, raw)
    bound = context("default", uuid.uuid4(), "access_token")
    envelope = seal(key, VALUE, bound, 7)
    others = cycle([seal(key, VALUE, bound, 7) for _ in range(2)])
    bare, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    ciphertext = bare.encrypt(nonce, VALUE, bound)
    fernet = Fernet(Fernet.generate_key())
    token = fernet.encrypt(VALUE)
    return {
        "aes encrypt": lambda: bare.encrypt(os.urandom(12), VALUE, bound),
        "aes decrypt": lambda: bare.decrypt(nonce, ciphertext, bound),
        "seal": lambda: seal(key, VALUE, bound, 7),
        "open": lambda: open_envelope(key, next(others), bound, 7),
        "open again": lambda: open_envelope(again, envelope, bound, 7),
        "Fernet encrypt": lambda: fernet.encrypt(VALUE),
        "Fernet decrypt": lambda: fernet.decrypt(token),
    }
