"""Client certificates for OpenSSL as Python has it, which reads them from files only."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from requests.adapters import HTTPAdapter

from vault.provider import TlsIdentity


class PresentingAdapter(HTTPAdapter):
    """Makes requests with a client certificate."""

    def __init__(self, identity: TlsIdentity, authorities: Path | None) -> None:
        self._context = ssl.create_default_context(cafile=authorities)
        with _as_file(identity.chain.reveal() + "\n" + identity.key.reveal()) as file:
            self._context.load_cert_chain(file)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **words: Any) -> None:
        """Give every connection the certificate."""
        super().init_poolmanager(*arguments, **words, ssl_context=self._context)


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Give text a name for a moment: in memory where the system can, and else in a file that only we can read."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        yield file.name
