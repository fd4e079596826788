#!/bin/sh
# Makes .venv from deploy/requirements.lock and installs this checkout into it (editable).
# Run it as often as you like: when nothing has changed it says so and ends within a few milliseconds.
#
#   .venv/.building   exists while we work: an interrupted run is seen by the next one, which begins anew
#   .venv/.built      written last: what it was built from
set -eu
cd "$(dirname "$0")/.."

LOCK=deploy/requirements.lock
VENV=.venv

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# What the environment depends on: the lock, how the project installs (its tools' settings are read at run time and
# count for nothing here), this script, and where the checkout lies, for a virtual environment cannot be moved.
fingerprint() {
    pwd
    cksum "$LOCK" deploy/bootstrap.sh
    awk '/^\[/ { counts = !/^\[tool\.(ruff|mypy|pytest|coverage)/ } counts' pyproject.toml | cksum
}

is_built() {
    [ -f "$VENV/.built" ] && [ -x "$VENV/bin/python" ] && [ ! -e "$VENV/.building" ] &&
        [ "$(cat "$VENV/.built")" = "$FINGERPRINT" ]
}

# One at a time: `make test` and `make demo` may be started side by side on a fresh checkout.
take_turn() {
    waited=0
    until mkdir .venv.turn 2>/dev/null; do
        holder=$(cat .venv.turn/pid 2>/dev/null || true)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf .venv.turn # its holder was killed
        elif [ "$waited" -ge 600 ]; then
            fail "another setup has been running for ten minutes; if that is not so, remove .venv.turn and try again"
        else
            [ "$waited" -gt 0 ] || say "waiting for another setup to end …"
            sleep 1
            waited=$((waited + 1))
        fi
    done
    trap 'rm -rf .venv.turn' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    echo $$ >.venv.turn/pid
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# The interpreter of an environment that is complete enough to be brought up to date in place.
usable_venv() {
    [ ! -e "$VENV/.building" ] &&
        "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

make_venv() {
    rm -rf "$VENV"
    if [ -n "$UV" ]; then
        "$UV" venv --quiet --python "${PYTHON:->=3.11}" "$VENV"
    elif "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        "$PYTHON" -m venv "$VENV"
    else # Debian without python3-venv: its pip can work on an environment that has none of its own
        "$PYTHON" -m venv --without-pip "$VENV"
    fi
}

# pip takes a minute for what uv does in two seconds, so it installs the uv of the lock and leaves the rest to that.
get_uv() {
    awk '/^uv==/ { found = 1 } found { print } found && !/\\$/ { exit }' "$LOCK" >"$VENV/.uv.txt"
    if [ -s "$VENV/.uv.txt" ] && with_pip --no-deps --require-hashes -r "$VENV/.uv.txt"; then
        UV=$VENV/bin/uv
    fi
    rm -f "$VENV/.uv.txt"
}

with_pip() {
    if "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
        "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-input "$@"
    else
        "$PYTHON" -m pip --python "$VENV/bin/python" install -qq --disable-pip-version-check --no-input "$@"
    fi
}

# uv knows nothing of pip's own settings (an index, a proxy, a certificate): where it cannot, pip perhaps can.
install() {
    if [ -n "$UV" ]; then
        "$UV" pip install --quiet --python "$VENV/bin/python" "$@" && return
        say "uv could not; trying pip, which takes longer …"
    fi
    with_pip "$@"
}

install_all() {
    : >"$VENV/.building"
    rm -f "$VENV/.built"
    [ -n "$UV" ] || get_uv
    install --no-deps --require-hashes -r "$LOCK" && install --no-deps --no-build-isolation --editable .
}

install_anew() {
    UV=$(command -v uv || true) # not the one of an environment that is about to go
    make_venv && install_all
}

FINGERPRINT=$(fingerprint)
if is_built; then
    say "nothing to do, $VENV is up to date"
    exit 0
fi

if [ -n "${PIP_CERT:-}" ] && [ -z "${SSL_CERT_FILE:-}" ]; then
    export SSL_CERT_FILE="$PIP_CERT" # what uv calls it
fi

take_turn
if is_built; then # by the one we waited for
    say "done by another setup"
    exit 0
fi

PYTHON=$(find_python || true)
UV=$(command -v uv || true)
if [ -z "$UV" ] && [ -z "$PYTHON" ]; then
    fail "no Python 3.11 or newer found (tried python3, python3.11 to python3.14 and python): install one, or install uv"
elif [ -z "$UV" ] && ! "$PYTHON" -c 'import ensurepip' 2>/dev/null && ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    fail "$PYTHON has neither pip nor ensurepip: install uv, or your system's python3-venv or python3-pip"
fi

say "installing $(grep -c '^[a-zA-Z0-9]' "$LOCK") locked packages into $VENV, this takes a moment …"
{ usable_venv && install_all; } || install_anew || fail "the packages could not be installed, see above"
printf '%s\n' "$FINGERPRINT" >"$VENV/.built"
rm -f "$VENV/.building"
say "done"
