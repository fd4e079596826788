"""The faces of Evergrant: ``Vault`` for web apps, ``Maintenance`` for workers and operators."""

from vault.facade.clients import Clients
from vault.facade.credentials import BasicAuth, ClientCertificate
from vault.facade.keys import Keys
from vault.facade.maintenance import Maintenance
from vault.facade.vault import Vault

__all__ = ["BasicAuth", "ClientCertificate", "Clients", "Keys", "Maintenance", "Vault"]
