"""`seal`: one value sealed and opened, beside the least it can cost and beside the usual tools."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from itertools import cycle

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.hmac import HMAC

from tests.benchmarks.measure import Call, Effort, Timing, interleaved
from tests.benchmarks.peers import Peer, peers
from tests.benchmarks.report import Figure, Goal, Section, at_least, at_most
from vault.envelope import DataKey, context, open_envelope, seal

VALUE = os.urandom(1024).hex().encode()
SEAL, OPEN, AGAIN = "seal", "open", "open again"
_GOALS: Mapping[str, Goal] = {"Fernet": at_least(4), "aws-encryption-sdk, cached": at_least(25)}


def run(effort: Effort) -> list[Section]:
    """Measure."""
    others, absent = peers(VALUE)
    others = {"Fernet": _fernet()} | others
    contenders = _bare() | _ours()
    for name, peer in others.items():
        contenders |= {f"{name}: seal": peer.seal, f"{name}: open": peer.open}
    timings = interleaved(contenders, calls=effort.of(10), rounds=100, lap=10)
    title = "Sealing and opening 2 KB: record key, commitment, AES-256-GCM"
    return [Section("seal", title, _figures(timings, others), absent)]


def _figures(timings: Mapping[str, Timing], others: Mapping[str, Peer]) -> list[Figure]:
    figures = [
        Figure(name, timings[name].median, "µs")
        for name in ("bare AES-GCM seal", "bare AES-GCM open", "limit: seal", "limit: open")
    ]
    for name, least in ((SEAL, "limit: seal"), (OPEN, "limit: open"), (AGAIN, "bare AES-GCM open")):
        ours = timings[name]
        figures.append(Figure(name, ours.median, "µs", ours.beside(timings[least]), least, at_most(5, of_value=True)))
    for name in others:
        for verb in (SEAL, OPEN):
            theirs = timings[f"{name}: {verb}"]
            ratio = theirs.beside(timings[verb])
            figures.append(Figure(f"{name}: {verb}", theirs.median, "µs", ratio, verb, _GOALS.get(name)))
    return figures


def _bare() -> dict[str, Call]:
    """AES-GCM under one key; and the limit: what OpenSSL does for one envelope, and nothing around it."""
    key, nonce, bound = AESGCM(os.urandom(32)), os.urandom(12), os.urandom(90)
    sealed = key.encrypt(nonce, VALUE, bound)
    keyed = HMAC(os.urandom(32), SHA512())

    def derived() -> AESGCM:
        block = keyed.copy()
        block.update(bound)
        return AESGCM(block.finalize()[:32])

    def limit_open() -> bytes:
        derived()
        return key.decrypt(nonce, sealed, bound)

    return {
        "bare AES-GCM seal": lambda: key.encrypt(os.urandom(12), VALUE, bound),
        "bare AES-GCM open": lambda: key.decrypt(nonce, sealed, bound),
        "limit: seal": lambda: derived().encrypt(os.urandom(28)[:12], VALUE, bound),
        "limit: open": limit_open,
    }


def _ours() -> dict[str, Call]:
    raw, key_id = os.urandom(32), uuid.uuid4()
    key, again = DataKey(key_id, raw), DataKey(key_id, raw)
    bound = context("default", uuid.uuid4(), "access_token")
    envelope = seal(key, VALUE, bound, 7)
    others = cycle([seal(key, VALUE, bound, 7) for _ in range(2)])
    return {
        SEAL: lambda: seal(key, VALUE, bound, 7),
        OPEN: lambda: open_envelope(key, next(others), bound, 7),
        AGAIN: lambda: open_envelope(again, envelope, bound, 7),
    }


def _fernet() -> Peer:
    fernet = Fernet(Fernet.generate_key())
    token = fernet.encrypt(VALUE)
    return Peer(lambda: fernet.encrypt(VALUE), lambda: fernet.decrypt(token))
