"""The append-only record of everything the simulator did: one JSON object a line.

Lines are collected while the server works through one round of requests and handed to the kernel with a single
`write()` before any answer of that round is sent. So the file survives SIGKILL and never knows less than a client.

Every line has `id`, `ts` (the simulator's time, seconds since the epoch), `mono` (the monotonic clock) and `event`:

    configured    a provider was created or changed: `provider`, `config`
    authorized    consent was given: `account`, `code`
    issued        a grant or a token began: `how`, `account`, `family`, tokens
    spent         a refresh token was used for the first time and rotated
    used          a refresh token that does not rotate was used
    replayed      an already spent refresh token was accepted again
    refused       the token endpoint said no after looking at the grant, or at the request: `reason`
    unprocessed   the request reached the provider, and a fault answered in its place: `fault`
    undelivered   the answer of event `of` did not reach the client after all: `reason`
    revoked       a family or one access token died: `reason`
    resource      a bearer token was shown to the API: `status`

Token events carry `request`, `provider`, `account`, `family`, `presented` (the refresh token that came in),
`refresh_token` and `access_token` (what went out), `fault` and `delivered`, which is as far as the server knows when it
writes the line: false when a fault is about to lose the answer. What it learns later is an `undelivered` line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

quote: Callable[[str], str] = json.encoder.encode_basestring_ascii


class Journal:
    """Collects lines and flushes them once per round; without a path they stay in memory."""

    def __init__(self, clock: Callable[[], float], path: Path | None = None) -> None:
        """Open the journal; a file that exists is continued.

        Args:
            clock: the simulator's time.
            path: the JSON-lines file, or None to keep the lines in memory only.
        """
        self._clock = clock
        self._pending: list[str] = []
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.path = path
        self.lines: list[str] = []
        self.last_id = 0

    def token_event(
        self,
        event: str,
        now: float,
        request: int,
        provider: str,
        owner: str,
        presented: str,
        issued: str,
        outcome: str,
    ) -> int:
        """Write one token event from fragments of JSON; this is the hot path, so nothing is escaped here.

        Args:
            event: the kind of event.
            now: the simulator's time.
            request: id of the request.
            provider: name of the provider, already quoted.
            owner: `"account":…,"family":…` as JSON.
            presented: the refresh token that came in, already quoted, or `null`.
            issued: `"refresh_token":…,"access_token":…` as JSON.
            outcome: `"delivered":…` and more members as JSON.

        Returns:
            The id of the event.
        """
        self.last_id = number = self.last_id + 1
        self._pending.append(
            f'{{"id":{number},"ts":{now:.6f},"mono":{time.monotonic():.6f},"event":"{event}","request":{request},'
            f'"provider":{provider},{owner},"presented":{presented},{issued},{outcome}}}\n'
        )
        return number

    def event(self, event: str, **members: Any) -> int:
        """Write one event of any kind; returns its id."""
        self.last_id = number = self.last_id + 1
        head = {"id": number, "ts": round(self._clock(), 6), "mono": round(time.monotonic(), 6), "event": event}
        self._pending.append(json.dumps(head | members, separators=(",", ":")) + "\n")
        return number

    def flush(self) -> None:
        """Hand everything collected to the kernel, or to memory."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        if self._file is None:
            self.lines.extend(pending)
            return
        data = memoryview("".join(pending).encode())
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None
