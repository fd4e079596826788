"""Documents cannot lie: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase

import vault
from vault import Job, Settings, metrics, settings, web
from vault.cli import main
from vault.metrics import CACHE_HIT_RATE
from vault.oauth.providers import LIKE
from vault.oauth.rows import TABLES, Row
from vault.web.problems import OWN
from worker import metrics as worker_metrics

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


FACES = [
    *(vault.Vault, vault.Maintenance, vault.Keys, vault.Clients, vault.Audit, vault.Events),
    *(vault.ApiKeys, vault.Serving),
]
NOWHERE = {"VAULT_DATABASE_URL": "postgresql://127.0.0.1:1/none", "VAULT_REDIS_URL": "redis://127.0.0.1:1/0"}


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _first_column(text: str) -> set[str]:
    """Every word in backticks in the first cell of a table's row."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_configuration_lists_exactly_the_settings_with_their_defaults() -> None:
    """Each setting is a row with its names and default; no row is of a setting that is gone."""
    text = _read("docs/configuration.md")
    fields = {name: field for name, field in Settings.model_fields.items() if name not in settings.GATHERED}
    for name, field in fields.items():
        names = " ".join(f"`{each}`" for each in settings.environment_names(name))
        default = "required" if field.is_required() else "" if field.default in (None, ()) else str(field.default)
        assert f"| {names} | {default} |" in text
    known = {each for name in fields for each in settings.environment_names(name)}
    assert _first_column(text) == known


def test_every_metric_is_in_the_operations_page() -> None:
    """Each metric is listed there with what it says of itself, and none is that is gone."""
    text = _read("docs/operations.md")
    found = [
        m for module in (metrics, worker_metrics) for m in vars(module).values() if isinstance(m, MetricWrapperBase)
    ]
    names = set()
    for metric in found:
        family = next(iter(metric.describe()))
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names.add(name)
        assert f"| `{name}` | {family.documentation} |" in text
    assert {word for word in _first_column(text) if word.startswith("evergrant_")} == {*names, CACHE_HIT_RATE}


def test_the_api_page_names_every_public_name() -> None:
    """Whatever can be imported from the door stands in docs/api.md."""
    named = set(re.findall(r"`(\w+)`", _read("docs/api.md")))
    assert set(vault.__all__) - named == set()


@pytest.mark.parametrize(
    "face",
    [
        vault.Vault,
        vault.Maintenance,
        vault.Keys,
        vault.Clients,
        vault.Audit,
        vault.Events,
        vault.ApiKeys,
        vault.Serving,
    ],
    ids=lambda face: str(face.__name__),
)
def test_the_api_page_names_every_method(face: type) -> None:
    """So does every method of a face; and no other."""
    row = next(line for line in _read("docs/api.md").splitlines() if line.startswith(f"| `{face.__name__}` |"))
    methods = {name for each in face.__mro__[:-1] for name in vars(each) if not name.startswith("_")}
    assert set(re.findall(r"`(\w+)`", row)) - {face.__name__} == methods


def test_the_http_page_lists_exactly_the_problems_the_scopes_and_the_endpoints() -> None:
    """Each error with its status and its word; each scope with what it opens; each endpoint of the description."""
    text = _read("docs/http.md")
    rows = {(error.__name__, kind.status, kind.word) for error, kind in web.PROBLEMS.items()}
    rows |= {("", kind.status, kind.word) for kind in OWN}
    found = re.findall(r"^\| (?:`(\w+)`|of the request itself) \| (\d+) \| `(\w+)` \|$", text, re.MULTILINE)
    assert {(error, int(status), word) for error, status, word in found} == rows
    for scope, opens in vault.SCOPES.items():
        assert f"| `{scope}` | {opens} |" in text
    listed = set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", text, re.MULTILINE)) | {"GET /health", "GET /metrics"}
    paths = web.create_app(vault.Vault.from_env(NOWHERE)).openapi()["paths"]
    there = {f"{method.upper()} {path.removeprefix(web.API)}" for path, methods in paths.items() for method in methods}
    assert listed == there
    assert all(f"`{each}`" in text for each in there)


def test_the_api_page_names_every_task_with_its_queue() -> None:
    """What other programs may ask for."""
    text = _read("docs/api.md")
    for job in Job.__args__:
        assert f"| `{job.task}` | `{job.lane}` |" in text


def test_the_providers_page_lists_exactly_the_fields() -> None:
    """Each field of a provider file is a row; no row is of a field that is gone."""
    fields = {LIKE, *Row.model_fields} - (TABLES.keys() - {"refresh", "lengthen"})
    for group in TABLES.keys() - {"refresh", "lengthen"}:
        shown = f"{group}.NAME" if group in ("variables", "grants") else group
        fields |= {f"{shown}.{name}" for name in TABLES[group].model_fields}
    assert _first_column(_read("docs/providers.md").partition("## Strategies")[0]) == fields


def _commands(group: click.Group, prefix: str = "") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        found |= _commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else {prefix + name}
    return found


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_documents_exist(page: Path) -> None:
    """``evergrant …`` and ``make …`` in a document name a command there is."""
    text = page.read_text()
    commands = {word.split()[0] for word in _commands(main)}
    for word in re.findall(r"`evergrant (?:--json )?([a-z][\w-]*)", text) + re.findall(
        r"^evergrant ([\w-]+)", text, re.MULTILINE
    ):
        assert word in commands
    targets = set(re.findall(r"^([a-z]+):", _read("Makefile"), re.MULTILINE))
    for word in re.findall(r"`make ([a-z]+)", text) + re.findall(r"^make ([a-z]+)", text, re.MULTILINE):
        assert word in targets


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_in_documents_lead_somewhere(page: Path) -> None:
    """A relative link names a file, and its anchor a heading of that file."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_the_settings_named_in_documents_exist() -> None:
    """A ``VAULT_…`` name in a document is a setting, a client's, or one of the tests' own."""
    known = {each for name in Settings.model_fields for each in settings.environment_names(name)}
    known |= {"VAULT_POSTGRES_BIN", "VAULT_REDIS_SERVER", "VAULT_TEST_DATABASE_URL", "VAULT_TEST_REDIS_URL"}
    known |= {"VAULT_TOKEN", "VAULT_TOKEN_FILE", "VAULT_CACERT"}  # HashiCorp's own
    for page in DOCS:
        for name in re.findall(r"\bVAULT_[A-Z_]+[A-Z]\b", page.read_text()):
            assert name in known or name.startswith("VAULT_CLIENT"), f"{page.name}: {name}"
