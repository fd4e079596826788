"""``evergrant audit`` and ``evergrant db grant``, as an operator, an auditor and a script use them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result

from tests.integration.audit.book import Book
from tests.integration.house import NOBODY_HERE
from vault.cli import EXIT_FAILED, EXIT_USAGE, main

Run = Callable[..., Result]


def _runner(environment: dict[str, str]) -> Run:
    nothing_else: dict[str, str | None] = {name: None for name in os.environ if name.startswith("VAULT_")}

    def run(*words: object, given: str | None = None) -> Result:
        return CliRunner(env={**nothing_else, **environment}).invoke(main, [str(word) for word in words], given)

    return run


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    """Seven rows that are linked, of two tenants."""
    made = Book(database_url)
    made.tell(5)
    made.tell(2, "umbra")
    made.chain()
    yield made
    made.close()


@pytest.fixture
def run(book: Book, tmp_path: Path) -> Run:
    return _runner({"VAULT_DATABASE_URL": book.url, "VAULT_REDIS_URL": NOBODY_HERE, "VAULT_HOME": str(tmp_path)})


def test_chain_links_what_is_new(book: Book, run: Run) -> None:
    book.tell(3)
    assert json.loads(run("--json", "audit", "chain").stdout) == {"rows_linked": 3}
    assert json.loads(run("--json", "audit", "chain").stdout) == {"rows_linked": 0}


def test_verify_says_how_much_was_looked_at_and_that_all_is_well(run: Run) -> None:
    result = run("--json", "audit", "verify")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "rows": 7, "tenants": 2, "waiting": 0, "anchors": 0, "anchors_forgotten": 0, "problems": 0,
        "passed": True, "named": [],
    }  # fmt: skip
    assert json.loads(run("--json", "audit", "verify", "--tenant", "umbra").stdout)["rows"] == 2


def test_verify_names_what_is_wrong_and_fails(book: Book, run: Run) -> None:
    with book.by_force():
        book.sql("UPDATE evergrant.audit SET event = 'other' WHERE tenant = 'umbra'")
    result = run("--json", "audit", "verify")
    assert result.exit_code == EXIT_FAILED
    told = json.loads(result.stdout)
    assert told["named"][0] == {"tenant": "umbra", "seq": 1, "audit_id": 6, "what": "row_changed"}
    assert told["problems"] == 2
    shown = run("audit", "verify")
    assert shown.exit_code == EXIT_FAILED
    assert "row_changed" in shown.stdout


def test_anchors_taken_before_show_what_was_put_back_since(book: Book, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "anchors.jsonl"
    file.write_text(run("audit", "anchor").stdout)
    assert len(file.read_text().splitlines()) == 2
    assert json.loads(run("--json", "audit", "verify", "--anchors", file).stdout)["anchors"] == 2
    with book.by_force():
        for table in ("audit", "audit_link", "audit_head"):
            book.sql(f"DELETE FROM evergrant.{table} WHERE tenant = 'umbra'")
    assert run("audit", "verify").exit_code == 0
    found = run("--json", "audit", "verify", "--anchors", file)
    assert found.exit_code == EXIT_FAILED
    assert [each["what"] for each in json.loads(found.stdout)["named"]] == ["anchor_missing"]


def test_an_export_is_verified_without_a_database_or_any_setting(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    assert json.loads(run("--json", "audit", "export", file).stdout) == {"rows": 7, "tenants": 2}
    assert run("audit", "export", "-").stdout == file.read_text()
    stranger = _runner({})
    assert stranger("audit", "verify", "--file", file).exit_code == 0
    assert stranger("audit", "verify", "--file", "-", given=file.read_text()).exit_code == 0
    assert stranger("audit", "verify", "--file", file, "--anchors", file).exit_code == 0
    file.write_text(file.read_text().replace('\\"epoch\\": 3', '\\"epoch\\": 4'))
    changed = stranger("--json", "audit", "verify", "--file", file)
    assert changed.exit_code == EXIT_FAILED
    assert json.loads(changed.stdout)["named"] == [
        {"tenant": "default", "seq": 4, "audit_id": 4, "what": "row_changed"}
    ]


def test_export_of_one_tenant_and_of_a_time(run: Run) -> None:
    lines = run("audit", "export", "-", "--tenant", "umbra").stdout.splitlines()
    assert {json.loads(line)["tenant"] for line in lines} == {"umbra"}
    assert run("audit", "export", "-", "--since", "2099-01-01").stdout == ""
    assert run("audit", "export", "-", "--until", "2020-01-01T00:00:00").stdout == ""


def test_tail_prints_a_line_for_each_row(run: Run) -> None:
    assert [line.split("  ")[1] for line in run("audit", "tail").stdout.splitlines()] == ["default"] * 5 + ["umbra"] * 2
    [line] = run("--json", "audit", "tail", "-n", 1, "--tenant", "default").stdout.splitlines()
    assert json.loads(json.loads(line)["detail"]) == {"epoch": 4}


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "verify", "--anchors", "/nowhere/anchors"),
        ("audit", "verify", "--file", "/nowhere/export"),
        ("audit", "verify", "--file", "-", "--tenant", "umbra"),
        ("audit", "export", "/nowhere/export"),
        ("audit", "export", "-", "--since", "yesterday"),
        ("audit", "tail", "-n", "-1"),
        ("db", "grant", "somebody", "--as", "king"),
        ("db", "grant", "nobody at all", "--as", "worker"),
    ],
    ids=" ".join,
)
def test_words_that_make_no_sense(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == EXIT_USAGE


def test_a_file_of_anchors_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "anchors").write_text("none\n")
    result = run("audit", "verify", "--anchors", tmp_path / "anchors")
    assert result.exit_code == EXIT_USAGE
    assert "line 1 is not a line of an audit export" in result.stderr


def test_grant_says_what_a_role_is_now(run: Run, book: Book) -> None:
    role = f"evergrant_{uuid4().hex[:8]}"
    book.sql(f"CREATE ROLE {role}")
    assert json.loads(run("--json", "db", "grant", role, "--as", "auditor").stdout) == {"role": role, "as": "auditor"}
    asked = (
        "SELECT has_table_privilege(%s, 'evergrant.audit', 'SELECT'), has_schema_privilege(%s, 'evergrant', 'CREATE')"
    )
    assert book.sql(asked, (role, role)) == [(True, False)]
    with psycopg.connect(book.url) as session:
        session.execute(f"DROP OWNED BY {role}".encode())
        session.execute(f"DROP ROLE {role}".encode())


def test_cleanup_counts_and_forgets_what_is_past_its_time(run: Run, book: Book) -> None:
    book.tell(4, "old", days_ago=500)
    book.chain()
    assert json.loads(run("--json", "cleanup", "--dry-run").stdout)["audit_rows"] == 0, "younger rows come before"
    with book.by_force():
        book.sql("DELETE FROM evergrant.audit WHERE tenant <> 'old'")
        book.sql("DELETE FROM evergrant.audit_link WHERE tenant <> 'old'")
        book.sql("DELETE FROM evergrant.audit_head WHERE tenant <> 'old'")
    for words, number in [(("cleanup", "--dry-run"), 4), (("cleanup",), 4), (("cleanup",), 0)]:
        assert json.loads(run("--json", *words).stdout)["audit_rows"] == number
    assert run("audit", "verify").exit_code == 0
