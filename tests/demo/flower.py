"""Flower: on localhost, behind a password made for the occasion, and unable to change anything."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from typing import Final, NamedTuple, NoReturn

from vault import ConfigurationError, Secret, Settings

PORT: Final = 5555
USER: Final = "evergrant"
NO_DATABASE = "postgresql://not-needed"


class Flower(NamedTuple):
    """Where it is and how to get in."""

    port: int
    password: str

    @classmethod
    def new(cls) -> Flower:
        """Take Flower's own port if it is free, else any, and a new password."""
        return cls(_free_port(), secrets.token_urlsafe(12))

    def environment(self) -> dict[str, str]:
        """What Flower reads its options from: a password has no place on a command line, where everybody sees it."""
        return {
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": str(self.port),
            "FLOWER_BASIC_AUTH": f"{USER}:{self.password}",
            "FLOWER_READ_ONLY": "true",
        }

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __str__(self) -> str:
        return f"{self.base}  user {USER}, password {self.password}"


def run() -> NoReturn:
    """Become Flower, for the workers behind ``VAULT_REDIS_URL``; the other settings are not needed.

    Raises:
        ConfigurationError: ``VAULT_REDIS_URL`` is not set.
    """
    if "VAULT_REDIS_URL" not in os.environ:
        raise ConfigurationError(
            ["VAULT_REDIS_URL: is required: Flower shows a system that runs (`make up` has a Flower of its own)"]
        )
    Settings.load(database_url=Secret(NO_DATABASE), home="/")
    flower = Flower.new()
    print(f"Flower  {flower}", flush=True)
    environ = {"VAULT_DATABASE_URL": NO_DATABASE, **os.environ, **flower.environment()}
    os.execve(sys.executable, [sys.executable, "-m", "worker.flower"], environ)


def _free_port() -> int:
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise OSError("no free port")
