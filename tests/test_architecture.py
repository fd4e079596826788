"""The house: every internal arrow points down, and each part knows only what it may know.

The checker reads imports from the sources; nothing is imported. Each rule is also run over a small tree with a
violation of it, since a checker that finds nothing may be one that looks at nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
ROOTS = ("vault", "worker", "beat_schedule")
"""What is held to the rules; ``tests`` is only what nobody of these may import."""

LAYERS: Sequence[Sequence[str]] = (
    ("vault.cli", "vault.web", "vault.testing", "worker", "beat_schedule"),
    ("vault",),
    ("vault.facade", "vault.exposition"),
    ("vault.wiring",),
    (
        *("vault.services", "vault.kms", "vault.store", "vault.sources", "vault.oauth", "vault.spool", "vault.queue"),
        *("vault.limits", "vault.quotas", "vault.hooks", "vault.registrars", "vault.hashing"),
    ),
    ("vault.engine",),
    ("vault.keyring", "vault.legacy"),
    ("vault.envelope", "vault.cache"),
    ("vault.ports",),
    ("vault.lineage", "vault.policy", "vault.standing"),
    ("vault.claims", "vault.egress", "vault.means", "vault.outcome", "vault.settings", "vault.validation"),
    ("vault.redirects",),
    (
        *("vault.api_keys", "vault.audit", "vault.model", "vault.provider", "vault.migration", "vault.credentials"),
        "vault.events",
    ),
    ("vault.webhooks",),
    ("vault.dialect", "vault.encodings", "vault.errors", "vault.forks", "vault.jobs", "vault.metrics", "vault.secret"),
)
"""From the top down. A part is a module or a package; parts beside each other do not know each other."""

ENTRANCES = frozenset(LAYERS[0])
WITHIN_ENTRANCES = (("worker", "beat_schedule"), ("vault.cli", "vault.cli_migrate"))
"""The data that Celery is given; the command that is long enough for a file of its own."""
ADAPTERS = frozenset(
    {
        *("vault.kms", "vault.store", "vault.sources", "vault.oauth", "vault.spool", "vault.queue", "vault.limits"),
        *("vault.hooks", "vault.registrars", "vault.hashing", "vault.quotas"),
    }
)
LONGEST_FILE = 400


class Import(NamedTuple):
    """One module imported by another."""

    source: str
    target: str
    line: int
    where: str
    """``top``, ``function``, ``type checking`` or ``text``."""


@dataclass(frozen=True)
class Tree:
    """The sources of a checkout, parsed."""

    files: Mapping[str, Path]
    modules: Mapping[str, ast.Module]

    @classmethod
    def read(cls, checkout: Path) -> Tree:
        """Parse every file of ours below a directory; of ``tests`` only the names count."""
        files: dict[str, Path] = {}
        for root in (*ROOTS, "tests"):
            for file in [checkout / f"{root}.py", *sorted((checkout / root).rglob("*.py"))]:
                if file.is_file():
                    parts = file.relative_to(checkout).with_suffix("").parts
                    files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        ours = {name: file for name, file in files.items() if name.split(".")[0] in ROOTS}
        return cls(files, {name: ast.parse(file.read_text(), str(file)) for name, file in ours.items()})

    def imports(self) -> Iterator[Import]:
        """Every import of one of these modules by another, wherever it stands."""
        for name, module in self.modules.items():
            for node, where in _nodes(module, "top"):
                for target in self._targets(name, node):
                    if target in self.files:
                        said = "text" if isinstance(node, ast.Call) else where
                        yield Import(name, target, getattr(node, "lineno", 0), said)

    def _targets(self, name: str, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".") if self.files[name].name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in self.files else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).split(".")[-1]
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def _nodes(node: ast.AST, where: str) -> Iterator[tuple[ast.AST, str]]:
    """Every node below one, with where it stands."""
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inner = "function"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "type checking"
        yield child, inner
        yield from _nodes(child, inner)


def part_of(module: str) -> str | None:
    """The part of the house a module belongs to."""
    parts = [part for layer in LAYERS for part in layer if part != "vault"]
    found = [part for part in parts if module == part or module.startswith(f"{part}.")]
    return found[0] if found else ("vault" if module == "vault" else None)


def layer_of(part: str) -> int:
    """How far down a part is."""
    return next(depth for depth, layer in enumerate(LAYERS) if part in layer)


def violations(tree: Tree) -> list[str]:
    """Everything that breaks a rule, in words."""
    found = [f"{name} has no place in the house" for name in tree.modules if part_of(name) is None]
    arrows = list(tree.imports())
    found += [f"{a.source}:{a.line} imports {a.target}: {problem}" for a in arrows for problem in _problems(a)]
    found += [f"cycle: {' → '.join(cycle)}" for cycle in cycles(arrows)]
    return found


def _problems(arrow: Import) -> Iterator[str]:
    if arrow.where != "top":
        yield {
            "function": "an import inside a function hides an arrow",
            "type checking": "an import under TYPE_CHECKING hides an arrow",
            "text": "an import by name hides an arrow",
        }[arrow.where]
    source, target = part_of(arrow.source), part_of(arrow.target)
    if target is None:
        yield "nobody imports the tests"
    if source is None or target is None or source == target:
        if source == target == "vault.services":
            yield "services do not know each other"
        return
    if source in ENTRANCES:
        if target != "vault" and (source, target) not in WITHIN_ENTRANCES:
            yield "an entrance imports the door only"
        return
    if target in ENTRANCES:
        yield "vault imports no entrance"
    elif layer_of(target) <= layer_of(source):
        yield "arrows point strictly down"
    if target in ADAPTERS and source != "vault.wiring":
        yield "only wiring imports adapters"
    if target == "vault.wiring" and source != "vault.facade":
        yield "only the facade imports wiring"


def cycles(arrows: Sequence[Import]) -> list[list[str]]:
    """Every set of modules that reach each other, as one way around."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows:
        graph.setdefault(arrow.source, set()).add(arrow.target)
    found: dict[frozenset[str], list[str]] = {}
    for start in graph:
        path = _way(graph, start)
        if path:
            found.setdefault(frozenset(path), path)
    return list(found.values())


def _way(graph: Mapping[str, set[str]], start: str) -> list[str] | None:
    """The shortest way from a module back to itself."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for following in sorted(graph.get(way[-1], ())):
            if following == start:
                return [*way, start]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None


def too_long(tree: Tree) -> list[str]:
    """Files that have grown past their purpose."""
    lengths = {name: len(tree.files[name].read_text().splitlines()) for name in tree.modules}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > LONGEST_FILE]


def undocumented(tree: Tree) -> list[str]:
    """Public modules, classes, functions and methods without a docstring; a method that fills a port names it."""
    public = {name: module for name, module in tree.modules.items() if "._" not in name}
    found = [name for name, module in public.items() if module.body and not ast.get_docstring(module)]
    for name, module in public.items():
        for inner, node in _public(module, name):
            if not ast.get_docstring(node):
                found.append(inner)
    return found


def _public(
    node: ast.Module | ast.ClassDef, name: str
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
            yield f"{name}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{name}.{child.name}")


# ------------------------------------------------------------------------------------------------------------ the house


@pytest.fixture(scope="module")
def house() -> Tree:
    return Tree.read(CHECKOUT)


def test_the_house_stands(house: Tree) -> None:
    assert violations(house) == []


def test_no_file_has_grown_past_its_purpose(house: Tree) -> None:
    assert too_long(house) == []


def test_everything_public_is_documented(house: Tree) -> None:
    assert undocumented(house) == []


def test_the_checker_has_seen_the_house(house: Tree) -> None:
    """Arrows that are known to be there, of every way of writing one."""
    arrows = {(a.source, a.target) for a in house.imports()}
    for known in (
        ("vault", "vault.facade"),
        ("vault.facade.maintenance", "vault.wiring"),
        ("vault.wiring", "vault.policy"),
        ("vault.wiring.keys", "vault.kms.directory"),
        ("vault.kms", "vault.kms.local"),
        ("vault.store.refreshing", "vault.store.claims"),
        ("worker.tasks", "vault"),
        ("vault.cli.keys", "vault"),
    ):
        assert known in arrows
    assert len(house.modules) > 50
    assert {part_of(name) for name in house.modules} >= {part for layer in LAYERS for part in layer}


# ---------------------------------------------------------------------------------------------------- a house of cards

HONEST = {
    "vault/__init__.py": "from vault.facade import Vault\n",
    "vault/facade.py": "from vault import settings as numbers\nfrom vault.wiring import Wiring\n",
    "vault/wiring.py": "from vault.kms import open_kms\nfrom vault.services.one import One\nimport vault.store.two\n",
    "vault/services/__init__.py": "",
    "vault/services/one.py": "from vault.engine.drain import Drain\nfrom vault import policy\n",
    "vault/services/two.py": "from vault.ports import Store\n",
    "vault/kms/__init__.py": "from vault.kms.local import LocalKms\n",
    "vault/kms/local.py": "from vault.ports import Kms\n",
    "vault/store/__init__.py": "",
    "vault/store/one.py": "from . import two\nfrom .two import Table\n",
    "vault/store/two.py": "from ..ports import Store\n",
    "vault/engine/__init__.py": "",
    "vault/engine/drain.py": "from vault.policy import timing\n",
    "vault/ports.py": "from vault.policy import Place\n",
    "vault/policy.py": "from vault.settings import Settings\nfrom vault.errors import VaultError\n",
    "vault/settings.py": "from vault.errors import VaultError\n",
    "vault/errors.py": "import enum\n",
    "vault/cli.py": "from vault import Vault\n",
    "vault/testing/__init__.py": "from vault.testing.static import Static\n",
    "vault/testing/static.py": "import vault\n",
    "worker/__init__.py": "from worker import tasks\n",
    "worker/app.py": "import beat_schedule\nfrom vault import Vault\n",
    "worker/tasks.py": "from worker.app import app\n\n\ndef work() -> None:\n    import json\n",
    "beat_schedule.py": "from vault import Vault\n",
    "tests/__init__.py": "",
    "tests/support.py": "from vault.wiring import Wiring\n",
}


def built(directory: Path, **changes: str) -> Tree:
    """The honest house with something appended to files of it."""
    for name, text in {**HONEST, **{name: HONEST.get(name, "") + text for name, text in changes.items()}}.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Tree.read(directory)


def test_an_honest_house_passes(tmp_path: Path) -> None:
    assert violations(built(tmp_path)) == []


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        ("vault/policy.py", "from vault.ports import Store", "strictly down"),
        ("vault/errors.py", "import vault.settings", "strictly down"),
        ("vault/engine/drain.py", "from vault.services.one import One", "strictly down"),
        ("vault/services/one.py", "from vault import Vault", "strictly down"),
        ("vault/settings.py", "from vault import facade", "strictly down"),
        ("vault/store/one.py", "from ..facade import Vault", "strictly down"),
        ("vault/services/one.py", "from vault.services.two import Two", "services do not know each other"),
        ("vault/services/one.py", "from . import two", "services do not know each other"),
        ("vault/services/one.py", "from vault.store.two import Table", "only wiring imports adapters"),
        ("vault/services/one.py", "import vault.kms", "only wiring imports adapters"),
        ("vault/facade.py", "from vault.store import one", "only wiring imports adapters"),
        ("vault/engine/drain.py", "from vault.kms import open_kms", "only wiring imports adapters"),
        ("vault/store/one.py", "from vault.kms.local import LocalKms", "strictly down"),
        ("vault/kms/local.py", "from vault.store import one", "only wiring imports adapters"),
        ("vault/store/one.py", "from vault.services import one", "strictly down"),
        ("vault/__init__.py", "from vault.wiring import Wiring", "only the facade imports wiring"),
        ("vault/cli.py", "from vault.facade import Vault", "an entrance imports the door only"),
        ("vault/cli.py", "from vault.errors import VaultError", "an entrance imports the door only"),
        ("vault/cli.py", "import worker", "an entrance imports the door only"),
        ("vault/testing/static.py", "from ..store import one", "an entrance imports the door only"),
        ("worker/app.py", "from vault.errors import VaultError", "an entrance imports the door only"),
        ("worker/tasks.py", "import vault.wiring", "an entrance imports the door only"),
        ("beat_schedule.py", "from vault.jobs import Job\nfrom vault.settings import Settings", "the door only"),
        ("beat_schedule.py", "import worker.app", "an entrance imports the door only"),
        ("vault/facade.py", "import worker", "vault imports no entrance"),
        ("vault/policy.py", "from worker import app", "vault imports no entrance"),
        ("vault/facade.py", "from vault.testing.static import Static", "vault imports no entrance"),
        ("vault/policy.py", "import tests.support", "nobody imports the tests"),
        ("worker/app.py", "from tests import support", "nobody imports the tests"),
        ("vault/store/two.py", "from vault.store import one", "cycle: "),
        ("vault/kms/local.py", "from vault.kms import open_kms", "cycle: "),
        ("worker/app.py", "from worker.tasks import work", "cycle: "),
        ("vault/ports.py", "if TYPE_CHECKING:\n    from vault.errors import VaultError", "TYPE_CHECKING hides"),
        ("vault/ports.py", "if typing.TYPE_CHECKING:\n    import vault.errors", "TYPE_CHECKING hides"),
        ("vault/ports.py", "def late():\n    from vault.errors import VaultError", "inside a function hides"),
        (
            "vault/ports.py",
            "class A:\n    async def late(self):\n        import vault.errors",
            "inside a function hides",
        ),
        ("worker/app.py", "def late():\n    from vault import Vault", "inside a function hides"),
        ("vault/ports.py", "importlib.import_module('vault.errors')", "by name hides"),
        ("vault/ports.py", "__import__('vault.errors')", "by name hides"),
        ("vault/utils.py", "import json", "no place in the house"),
    ],
)
def test_a_house_with_a_knot_does_not(tmp_path: Path, file: str, line: str, rule: str) -> None:
    found = violations(built(tmp_path, **{file: f"{line}\n"}))
    assert any(rule in each for each in found), found


def test_a_long_way_around_is_a_cycle_too(tmp_path: Path) -> None:
    more = {"vault/store/two.py": "from vault.store import three\n", "vault/store/three.py": "from . import one\n"}
    found = violations(built(tmp_path, **more))
    assert found == ["cycle: vault.store.one → vault.store.two → vault.store.three → vault.store.one"]


def test_a_long_file_and_a_missing_docstring_are_found(tmp_path: Path) -> None:
    shown = 'class Shown:\n    """Too."""\n    def act(self):\n        pass\n    def _inner(self):\n        pass\n'
    text = '"""Documented."""\n' + shown + "\n" * 400
    tree = built(tmp_path, **{"vault/model.py": text, "worker/pulse.py": "def beat():\n    pass\n"})
    assert too_long(tree) == ["vault.model has 407 lines"]
    found = undocumented(tree)
    assert "vault.model.Shown.act" in found
    assert "worker.pulse.beat" in found
    assert "worker.pulse" in found
    assert not any("_inner" in each or each == "vault.model" for each in found)
