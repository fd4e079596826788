"""A secret shows itself to `reveal()` and to nothing else."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import structlog
from rich.console import Console
from rich.traceback import Traceback

from vault.model import Token
from vault.secret import Secret

VALUE = "hunter2-and-more"
TOKEN = Token(UUID(int=1), Secret(VALUE), "Bearer", datetime(2030, 1, 1, tzinfo=UTC), timedelta(hours=1))


def test_reveal_gives_the_text() -> None:
    assert Secret(VALUE).reveal() == VALUE


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        lambda it: f"{it}",
        lambda it: f"{it!r:>40}",
        lambda it: "%s %r" % (it, it),  # noqa: UP031  # this way too
        lambda it: "{0} {0!s}".format(it),  # noqa: UP032  # this way too
        lambda it: repr([it, {"key": it}, (it,)]),
        pprint.pformat,
    ],
)
@pytest.mark.parametrize("thing", [Secret(VALUE), TOKEN], ids=["secret", "token"])
def test_no_way_of_printing_shows_it(thing: object, show: Callable[[object], str]) -> None:
    assert VALUE not in show(thing)


def test_a_width_in_an_f_string_does_not_show_it() -> None:
    assert f"{Secret(VALUE):>40}" == f"{Secret(VALUE)}"


def test_no_log_record_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("app").debug("got %s and %r", Secret(VALUE), TOKEN)
    assert VALUE not in caplog.text

    lines = io.StringIO()
    structlog.wrap_logger(structlog.PrintLogger(lines)).info("event", secret=Secret(VALUE), token=TOKEN)
    assert "event" in lines.getvalue()
    assert VALUE not in lines.getvalue()


def test_no_traceback_with_locals_shows_it() -> None:
    def fail(token: Token, secret: Secret) -> None:
        raise RuntimeError("boom")

    try:
        fail(TOKEN, Secret(VALUE))
    except RuntimeError as error:
        plain = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        page = io.StringIO()
        Console(file=page, width=200).print(Traceback.from_exception(type(error), error, None, show_locals=True))
    assert "boom" in plain
    assert VALUE not in plain + page.getvalue()


@pytest.mark.parametrize(
    "carry",
    [
        *[lambda it, p=p: pickle.dumps(it, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)],
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        lambda it: {it},
        bytes,
        vars,
    ],
)
def test_no_way_of_carrying_it_away_works(carry: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as refused:
        carry(Secret(VALUE))
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize("carry", [pickle.dumps, copy.deepcopy, lambda it: dataclasses.asdict(it)])
def test_nor_does_it_leave_inside_a_token(carry: Callable[[Token], object]) -> None:
    with pytest.raises(TypeError):
        carry(TOKEN)


def test_nothing_can_be_hung_onto_it() -> None:
    with pytest.raises(AttributeError):
        Secret(VALUE).copy = VALUE  # type: ignore[attr-defined]


def test_secrets_are_equal_by_their_text_and_to_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä€") == Secret("ä€")
    assert Secret("a") != "a"
    assert Secret("a") in [Secret("b"), Secret("a")]


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")
