"""Who may speak to other people's servers: whoever asks ``Egress`` at each socket, and a few with their reasons."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import vault

HOME: Final = Path(vault.__file__).parent
CLIENTS: Final = frozenset({"requests", "urllib.request", "http.client", "socket", "pycurl", "httpx", "aiohttp"})
CHECKED: Final = frozenset({"egress/rules.py", "egress/once.py", "oauth/transport.py"})
"""Their handles are prepared by ``Egress``, which tests/integration/test_egress_rebinding.py holds them to."""
EXCUSED: Final = {
    "oauth/codeflow.py": "has a library write requests; what sends them is egress/once.py",
    "oauth/oauth1.py": "has a library sign requests",
    "services/tending.py": "names a type", "ports/providers.py": "names a type", "facade/vault.py": "names a type",
    "facade/bearer.py": "signs what an app sends", "facade/session.py": "is an app's own, to where the app says",
    "kms/transit.py": "speaks to the operator's own Vault, which is inside",
    "testing/servers.py": "looks for a free port",
}  # fmt: skip


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return found


def _speaks(imported: str) -> bool:
    return any(imported == client or imported.startswith(f"{client}.") for client in CLIENTS)


def test_nothing_sends_but_what_is_checked() -> None:
    found = {str(file.relative_to(HOME)) for file in HOME.rglob("*.py") if any(map(_speaks, _imports(file)))}
    assert found == CHECKED | EXCUSED.keys()


def test_every_handle_of_libcurl_is_prepared_by_the_same_rules() -> None:
    makers = {str(file.relative_to(HOME)) for file in HOME.rglob("*.py") if "pycurl.Curl()" in file.read_text()}
    assert makers == {"egress/once.py", "oauth/transport.py"}
    for each in makers:
        text = (HOME / each).read_text()
        assert text.count("pycurl.Curl()") == text.count("egress.prepare(curl, ") == 1, each
