"""Named points at which a process that rotates keys dies: before and after each call of the stores of keys at rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from vault.kms import keyring_file
from vault.store.data_keys import PostgresDataKeys
from vault.store.keys import PostgresKeys
from vault.store.tenant_keys import PostgresTenantKeys

STORES = (PostgresDataKeys, PostgresTenantKeys, PostgresKeys)
BUSY = frozenset({
    "current_tenant_key", "data_key", "data_keys_older_than", "data_keys_under", "replace_data_keys", "reseal",
    "rewrap_data_keys", "rows_under_replaced_keys", "tenant_kek", "tenant_key",
})  # fmt: skip
"""Calls that a run makes for each batch, or for each key."""
Reach = Callable[[str], object]


def calls() -> list[str]:
    """Name every call there is."""
    of_stores = [name for store in STORES for name in vars(store) if not name.startswith("_")]
    return [*of_stores, "keyring_add", "keyring_set_current", "keyring_replace"]


def odds(busy: float, rare: float) -> Mapping[str, float]:
    """Return the chance of dying at each point."""
    chances = {name: busy if name in BUSY else rare for name in calls()}
    return {f"{when}:{name}": chance for name, chance in chances.items() for when in ("before", "after")}


def build_in(reach: Reach) -> None:
    """Have ``reach`` told whenever this process comes to a point: ``before:reseal``, ``after:reseal``, …"""
    for store in STORES:
        for name, method in list(vars(store).items()):
            if not name.startswith("_"):
                setattr(store, name, _between(reach, name, method))
    for name in ("add", "set_current"):
        setattr(keyring_file, name, _between(reach, f"keyring_{name}", getattr(keyring_file, name)))
    Path.replace = _between(reach, "keyring_replace", Path.replace)  # type: ignore[method-assign]  # of a new keyring


def _between(reach: Reach, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def reached(*args: Any, **kwargs: Any) -> Any:
        reach(f"before:{name}")
        result = call(*args, **kwargs)
        reach(f"after:{name}")
        return result

    return reached
