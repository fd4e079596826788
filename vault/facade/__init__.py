"""The faces of Evergrant: ``Vault`` for web apps, ``Maintenance`` for workers and operators."""

from vault.facade.api_keys import ApiKeys
from vault.facade.audit import Audit
from vault.facade.clients import Clients
from vault.facade.events import Events
from vault.facade.keys import Keys
from vault.facade.maintenance import Maintenance
from vault.facade.registry import ProviderRow, Registry
from vault.facade.serving import Serving
from vault.facade.session import ProviderSession
from vault.facade.storing import BasicAuth, ClientCertificate, OAuthGrant
from vault.facade.vault import Vault

__all__ = [
    "ApiKeys",
    "Audit",
    "BasicAuth",
    "ClientCertificate",
    "Clients",
    "Events",
    "Keys",
    "Maintenance",
    "OAuthGrant",
    "ProviderRow",
    "ProviderSession",
    "Registry",
    "Serving",
    "Vault",
]
