"""A nameserver that changes its mind: what it says of a name depends on how often it was asked.

It knows what a resolver asks about addresses (A and AAAA, over UDP), and nothing else of RFC 1035.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, Self

A: Final = 1
CNAME: Final = 5
AAAA: Final = 28
_NO_ERROR: Final = 0x8180  # an answer, recursion desired and available
_NO_SUCH_NAME: Final = 0x8183
_FORGET_AT_ONCE_S: Final = 0
_ITSELF: Final = b"\xc0\x0c"
"""A pointer to the name that was asked about."""

Answer = Sequence[str]
"""Addresses of either family; a word that is none is an alias, and what follows are its addresses."""


class Nameserver:
    """Answers each question about a name with the next of its answers, and from then on with the last of them."""

    def __init__(self, address: str, port: int = 53) -> None:
        self.names: dict[str, Sequence[Answer]] = {}
        """What is said of each name, the first time and later. Others do not exist."""
        self.asked: Counter[str] = Counter()
        """How often each name was asked about, by A and AAAA together."""
        self._turns: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))

    def start(self) -> Self:
        """Answer from now on."""
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            with contextlib.suppress(struct.error, IndexError, UnicodeDecodeError):  # it is no question: no answer
                self._socket.sendto(self.answer(question), asker)

    def answer(self, question: bytes) -> bytes:
        """Answer one message."""
        name, end = _name(question)
        kind: int = struct.unpack_from(">H", question, end)[0]
        self.asked[name] += 1
        answers = self.names.get(name)
        if answers is None:
            return _message(question, end, [], _NO_SUCH_NAME)
        turn, self._turns[name, kind] = self._turns[name, kind], self._turns[name, kind] + 1
        return _message(question, end, _records(answers[min(turn, len(answers) - 1)], kind))


def _name(question: bytes) -> tuple[str, int]:
    """Read what is asked about, and where that ends."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1


def _records(answer: Answer, kind: int) -> list[bytes]:
    records, owner = [], _ITSELF
    for each in answer:
        try:
            address = ip_address(each)
        except ValueError:
            alias = b"".join(bytes((len(label),)) + label.encode() for label in each.split(".")) + b"\0"
            records.append(_record(owner, CNAME, alias))
            owner = alias
            continue
        if kind == (A if address.version == 4 else AAAA):
            records.append(_record(owner, kind, address.packed))
    return records


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack(">HHIH", kind, 1, _FORGET_AT_ONCE_S, len(data)) + data


def _message(question: bytes, end: int, records: Sequence[bytes], flags: int = _NO_ERROR) -> bytes:
    header = question[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    return header + question[12 : end + 4] + b"".join(records)
