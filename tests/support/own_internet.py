"""An Internet of a process's own: every address there is leads to this process, and every packet is seen.

Linux gives a process namespaces of its own: a network with nothing in it but a loopback device, to which all addresses
are routed, and files under ``/etc`` by which glibc asks our nameserver. Nothing of it can leave the machine, and it
ends with the process. It takes root, or a user who may make user namespaces, and the command ``ip``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.everybody import Everybody
from tests.support.nameserver import Nameserver

NAMESERVER: Final = "9.9.9.53"
PUBLIC: Final = "93.184.216.34"
PUBLIC_6: Final = "2606:2800:220:1::34"
EXPECTED: Final = frozenset({NAMESERVER, PUBLIC, PUBLIC_6})
"""Where packets may go. An address that stands here is the process's own one too, so that answers come back to it."""

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_ETC: Final[Mapping[str, str]] = {
    "resolv.conf": f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
}
_NETWORK: Final = (
    "link set lo up",
    f"addr add {PUBLIC}/32 dev lo",
    f"-6 addr add {PUBLIC_6}/128 dev lo nodad",
    "route add local 0.0.0.0/0 dev lo",
    "-6 route add local ::/0 dev lo",
)
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6, _PACKET_OUTGOING = 3, 0x0800, 0x86DD, 4
_SOL_PACKET, _PACKET_STATISTICS = 263, 6


class CannotLeave(Exception):
    """This process gets no network of its own; the message says why."""


class Packets:
    """Every packet that is sent in this network, from its making on."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._socket.setblocking(False)
        self._found: Counter[str] = Counter()
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Make room for more: the kernel keeps some hundreds."""
        while select.select([self._socket], [], []):
            with self._lock:
                self._read()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                head, (_, protocol, kind, *_) = self._socket.recvfrom(64)
                if kind == _PACKET_OUTGOING:
                    self._found[_target(protocol, head)] += 1

    def targets(self) -> Counter[str]:
        """Say where packets went since the last time, and how many."""
        with self._lock:
            self._read()
            found, self._found = self._found, Counter()
            _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert not dropped, "packets went by unseen"
        return found

    def astray(self) -> dict[str, int]:
        """Say where packets went that should not have gone anywhere."""
        return {target: count for target, count in self.targets().items() if target not in EXPECTED}


def _target(protocol: int, head: bytes) -> str:
    if protocol == _ETH_P_IP:
        return str(ip_address(head[16:20]))
    if protocol == _ETH_P_IPV6:
        return str(ip_address(head[24:40]))
    return f"protocol {protocol:#x}"


class Internet(NamedTuple):
    """What there is in it."""

    nameserver: Nameserver
    packets: Packets
    everybody: Everybody


def leave(home: Path) -> Internet:
    """Leave the network of this machine for one of this process's own; for good. It must have a single thread.

    Raises:
        CannotLeave: It may not, or this is not Linux. It is then no longer of use for anything else.
    """
    try:
        _unshare()
        for name, text in _ETC.items():
            _mount(home / name, Path("/etc") / name, text)
    except OSError as error:
        raise CannotLeave(f"no namespaces for this user: {error}") from None
    for words in _NETWORK:
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotLeave(f"ip {words}: {done.stderr.strip()}")
    try:
        made = Internet(Nameserver(NAMESERVER).start(), Packets(), Everybody(home))
        made.everybody.start()
    except OSError as error:
        raise CannotLeave(f"no servers, or no sight of packets, in a network of its own: {error}") from None
    return made


def _unshare() -> None:
    if not shutil.which("ip"):
        raise CannotLeave("no command ip (iproute2)")
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        raise CannotLeave("no Linux")
    user, group = os.geteuid(), os.getegid()
    ours = _CLONE_NEWNS | _CLONE_NEWNET | (_CLONE_NEWUSER if user else 0)
    _check(libc.unshare(ours))
    if user:  # root in there; outside of it, who we were
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))


def _mount(source: Path, target: Path, text: str) -> None:
    if target.exists():
        source.write_text(text)
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.mount(bytes(source), bytes(target), None, _MS_BIND, None))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
