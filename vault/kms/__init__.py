"""Where KEKs live. Which KMS answers is chosen by URI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vault.errors import ConfigurationError
from vault.kms.aws import open_aws
from vault.kms.azure import open_azure
from vault.kms.local import LocalKms
from vault.kms.transit import open_transit
from vault.ports import Kms


def _local(rest: str) -> Kms:
    path, mark, key_name = rest.partition("#")
    path = path.removeprefix("//")
    if not path or path.endswith("/") or (mark and not key_name):
        raise ConfigurationError([f"KEK URI 'local:{rest}' must read local:FILE or local:FILE#KEY_NAME"])
    return LocalKms(Path(path).expanduser(), key_name or None)


SCHEMES: Final[Mapping[str, Callable[[str], Kms]]] = MappingProxyType(
    {
        "aws-kms": open_aws,
        "azure-kv": open_azure,
        "local": _local,
        "vault-transit": open_transit,
    }
)
"""What may stand before the colon, and who reads what stands after it."""


_AWS_KEY = re.compile(r"arn:aws[a-z-]*:kms:|alias/|mrk-|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def open_kms(uri: str) -> Kms:
    """Open the KMS a URI names.

    ``local:/path/keyring.json#name`` is a keyring file and the key in it that wraps; without ``#name`` the file itself
    says which. A path that does not start with a slash counts from the working directory.

    ``aws-kms:KEY`` is a key in AWS KMS, by ARN, id or alias; ``?region=``, ``endpoint=`` and ``replicas=`` may follow.
    The scheme may be left out before an ARN, an id or ``alias/``.

    ``azure-kv:https://MYVAULT.vault.azure.net/keys/NAME`` is a key of Azure Key Vault. Its newest version wraps, unless
    one is named: ``…/NAME/VERSION``.

    ``vault-transit:https://SERVER:8200/MOUNT/NAME`` is a key of the transit engine of HashiCorp Vault or OpenBao;
    ``?namespace=NS`` may follow.

    Raises:
        ConfigurationError: The scheme is not known, or what follows it cannot work; the message says which and why.
    """
    scheme, colon, rest = uri.partition(":")
    if _AWS_KEY.match(uri):  # what KMS_KEY_ID held in systems that knew no other KMS
        scheme, colon, rest = "aws-kms", ":", uri
    if not colon or scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in sorted(SCHEMES))
        raise ConfigurationError([f"KEK URI of unknown kind {scheme[:32]!r}; known kinds: {known}"])
    return SCHEMES[scheme](rest)
