"""What is sent for each step, and what is made of each answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.credentials.rotators import Made, RotationRequest
from vault.egress.once import Heard, Sent
from vault.errors import ReconnectRequired, RotationFailed, UnknownCredential
from vault.registrars.data import read_recipes
from vault.registrars.registrar import Registrar
from vault.secret import Secret
from vault.webhooks import is_secret

KEY_ID = UUID("00000000-0000-4000-8000-00000000000a")
CONNECTION = UUID("00000000-0000-4000-8000-00000000000c")
NEW, OLD, TOKEN, KEY = Secret("the-new-secret-1"), Secret("the-old-secret-1"), Secret("token"), Secret("sk_key")
REQUEST = RotationRequest(
    UUID(int=1), "default", UUID(int=2), "webhook_secret", "", "", {}, timedelta(days=1), CONNECTION
)
GITHUB = REQUEST._replace(tags={"owner": "acme", "repo": "widgets", "hook_id": "7"})
STRIPE = REQUEST._replace(
    tags={"url": "https://a.example/x?y=1&z", "events": "a.b, c.d", "endpoint_id": "we_0", "api_key": str(KEY_ID)}
)
EMPTY: dict[str, Any] = {"data": []}
MADE = {"id": "we_1", "secret": "whsec_made_at_stripe"}


class Line:
    """A far side that answers what it is told to, and remembers what it was asked."""

    def __init__(self, *answers: Heard | dict[str, Any] | int) -> None:
        self.sent: list[Sent] = []
        self._answers = list(answers)

    def send(self, request: Sent) -> Heard:
        self.sent.append(request)
        answer = self._answers.pop(0) if self._answers else {}
        if isinstance(answer, Heard):
            return answer
        return Heard(answer, b"", None) if isinstance(answer, int) else Heard(200, json.dumps(answer).encode(), None)

    @property
    def asked(self) -> list[str]:
        return [f"{each.method} {each.url.split('.com')[1]}" for each in self.sent]


class Keys:
    """``Authority`` that has one of each."""

    def access_token(self, tenant: str, connection_id: UUID) -> Secret:
        if connection_id != CONNECTION:
            raise ReconnectRequired(connection_id, "revoked")
        return TOKEN

    def credential(self, tenant: str, credential_id: UUID, reason: str) -> Secret:
        if credential_id != KEY_ID or tenant != "default":
            raise UnknownCredential(credential_id)
        return KEY


def registrar(name: str, line: Line) -> Registrar:
    return Registrar(read_recipes([], ())[name], line, Keys(), lambda size: b"r" * size)


def failure(call: Callable[[], object]) -> RotationFailed:
    with pytest.raises(RotationFailed) as failed:
        call()
    return failed.value


def test_github_is_told_of_a_secret_that_we_have_made() -> None:
    line = Line()
    github = registrar("github", line)
    made = github.create(GITHUB, OLD)
    assert isinstance(made, Secret)
    assert is_secret(made)
    assert line.sent == [], "nobody is told before it is stored"
    github.set(GITHUB, NEW, OLD)
    github.test(GITHUB, NEW)
    github.finish(GITHUB, NEW, OLD)
    github.retire(GITHUB, OLD)
    github.undo(GITHUB, NEW, OLD)
    assert line.asked == [
        "PATCH /repos/acme/widgets/hooks/7/config", "GET /repos/acme/widgets/hooks/7",
        "PATCH /repos/acme/widgets/hooks/7/config",
    ]  # fmt: skip
    assert [json.loads(each.body or b"null") for each in line.sent] == [
        {"secret": NEW.reveal()}, None, {"secret": OLD.reveal()},
    ]  # fmt: skip
    assert {"Authorization: Bearer token", "Content-Type: application/json"} <= set(line.sent[0].headers)


def test_stripe_makes_an_endpoint_that_delivers_only_when_its_secret_is_stored() -> None:
    line = Line(EMPTY, MADE, {}, {"status": "enabled"})
    stripe = registrar("stripe", line)
    made = stripe.create(STRIPE, OLD)
    assert made == Made(Secret("whsec_made_at_stripe"), {"endpoint_id": "we_1"})
    after = STRIPE._replace(new_facts={"endpoint_id": "we_1"})
    stripe.set(after, NEW, OLD)
    stripe.test(after, NEW)
    stripe.retire(after, OLD)
    assert line.asked == [
        "GET /v1/webhook_endpoints?limit=100", "POST /v1/webhook_endpoints", "POST /v1/webhook_endpoints/we_1",
        "GET /v1/webhook_endpoints/we_1", "DELETE /v1/webhook_endpoints/we_0",
    ]  # fmt: skip
    create, enable = line.sent[1:3]
    assert create.body == (
        b"url=https%3A%2F%2Fa.example%2Fx%3Fy%3D1%26z&enabled_events%5B%5D=test_helpers.test_clock.internal_failure"
        b"&metadata%5Bevergrant_rotation%5D=00000000-0000-0000-0000-000000000001"
    )
    assert {f"Idempotency-Key: {REQUEST.id}", "Authorization: Bearer sk_key"} <= set(create.headers)
    assert enable.body == b"enabled_events%5B%5D=a.b&enabled_events%5B%5D=c.d"


def test_what_a_version_is_called_wins_over_the_tag_that_names_the_first() -> None:
    line = Line()
    registrar("stripe", line).retire(STRIPE._replace(facts={"endpoint_id": "we_5"}), OLD)
    assert line.asked == ["DELETE /v1/webhook_endpoints/we_5"]


def test_what_nobody_knows_the_secret_of_is_taken_away() -> None:
    """Somebody made it and died; the idempotency key was forgotten meanwhile."""
    stray = {"id": "we_stray", "metadata": {"evergrant_rotation": str(REQUEST.id)}}
    line = Line({"data": [stray, {"id": "we_0", "metadata": {}}]}, MADE)
    made = registrar("stripe", line).create(STRIPE, OLD)
    assert isinstance(made, Made)
    assert made.facts == {"endpoint_id": "we_1"}
    assert line.asked[2:] == ["DELETE /v1/webhook_endpoints/we_stray"]


def test_what_is_found_with_its_secret_is_taken_and_nothing_made() -> None:
    there = {**MADE, "metadata": {"evergrant_rotation": str(REQUEST.id)}}
    line = Line({"data": [there]})
    assert registrar("stripe", line).create(STRIPE, OLD) == Made(Secret(MADE["secret"]), {"endpoint_id": "we_1"})
    assert len(line.sent) == 1


def test_one_that_came_without_its_secret_is_taken_away_again() -> None:
    line = Line(EMPTY, {"id": "we_1"})
    stripe = registrar("stripe", line)
    assert not failure(lambda: stripe.create(STRIPE, OLD)).transient
    assert line.asked[2:] == ["DELETE /v1/webhook_endpoints/we_1"]


@pytest.mark.parametrize(
    ("answer", "transient"),
    [
        *((Heard(status, b"", None), True) for status in (401, 408, 409, 425, 429, 500, 503)),
        *((Heard(status, b"", None), False) for status in (301, 307, 400, 403, 404, 422)),
        (Heard(403, b"", timedelta(seconds=7)), True),
        (Heard(0, b"", None, "timeout"), True),
    ],
)
def test_what_passes_is_tried_again_and_what_does_not_is_not(answer: Heard, *, transient: bool) -> None:
    failed = failure(lambda: registrar("github", Line(answer)).set(GITHUB, NEW, OLD))
    assert failed.transient is transient
    assert failed.retry_after == answer.retry_after


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_taken_away(status: int) -> None:
    registrar("stripe", Line(status)).retire(STRIPE, OLD)
    registrar("github", Line(status)).undo(GITHUB, NEW, OLD)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_may_not_be_taken_away_now_may_be_later(status: int) -> None:
    assert failure(lambda: registrar("stripe", Line(status)).retire(STRIPE, OLD)).transient
    assert failure(lambda: registrar("github", Line(status)).undo(GITHUB, NEW, OLD)).transient


def test_nothing_is_made_that_could_not_be_taken_away() -> None:
    line = Line()
    for missing in ("url", "events", "endpoint_id"):
        request = STRIPE._replace(tags={name: value for name, value in STRIPE.tags.items() if name != missing})
        failed = failure(lambda request=request: registrar("stripe", line).create(request, OLD))  # type: ignore[misc]
        assert not failed.transient
        assert missing in failed.reason
    assert line.sent == []


def test_an_endpoint_that_was_never_made_is_not_taken_for_the_old_one() -> None:
    """A value that was brought along has none; the tag names another."""
    line = Line()
    assert not failure(lambda: registrar("stripe", line).undo(STRIPE, NEW, OLD)).transient
    assert line.sent == []


def test_a_disabled_endpoint_does_not_pass_the_test() -> None:
    after = STRIPE._replace(new_facts={"endpoint_id": "we_1"})
    assert failure(lambda: registrar("stripe", Line({"status": "disabled"})).test(after, NEW)).transient


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b'{"data": 1}', b"null"])
def test_an_answer_that_cannot_be_read_is_asked_for_again(body: bytes) -> None:
    assert failure(lambda: registrar("stripe", Line(Heard(200, body, None))).create(STRIPE, OLD)).transient


def test_who_may_not_is_told_by_reason_only() -> None:
    for request, transient in (
        (GITHUB._replace(connection_id=UUID(int=9)), True),
        (GITHUB._replace(connection_id=None), False),
    ):
        failed = failure(lambda request=request: registrar("github", Line()).set(request, NEW, OLD))  # type: ignore[misc]
        assert failed.transient is transient
    for key in ("nonsense", str(UUID(int=5))):
        request = STRIPE._replace(tags={**STRIPE.tags, "api_key": key})
        assert not failure(lambda request=request: registrar("stripe", Line()).retire(request, OLD)).transient  # type: ignore[misc]


@pytest.mark.parametrize("value", ["..", "."])
def test_a_tag_does_not_climb_out_of_its_segment(value: str) -> None:
    line = Line()
    request = GITHUB._replace(tags={**GITHUB.tags, "repo": value})
    assert not failure(lambda: registrar("github", line).set(request, NEW, OLD)).transient
    assert line.sent == []


@given(st.text(min_size=1).filter(lambda text: text not in (".", "..") and text.isprintable()))
def test_whatever_a_tag_says_is_one_segment(value: str) -> None:
    line = Line()
    registrar("github", line).set(GITHUB._replace(tags={**GITHUB.tags, "repo": value}), NEW, OLD)
    assert line.sent[0].url.count("/") == "https://api.github.com/repos/acme/x/hooks/7/config".count("/")
    assert not set("?#% \\") & set(line.sent[0].url) - {"%"}


@given(st.text(min_size=1))
def test_whatever_a_secret_is_it_is_one_text_of_the_body(value: str) -> None:
    line = Line()
    registrar("github", line).set(GITHUB, Secret(value), OLD)
    assert json.loads(line.sent[0].body or b"") == {"secret": value}


def test_nothing_in_a_header_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text('[github.headers]\nAuthorization = "Bearer {authorization}"\nX-Repo = "{tag.repo}"\n')
    github = Registrar(read_recipes([file], ())["github"], line := Line(), Keys(), lambda size: b"r" * size)
    request = GITHUB._replace(tags={**GITHUB.tags, "repo": "a\r\nX-Evil: 1"})
    assert not failure(lambda: github.set(request, NEW, OLD)).transient
    assert line.sent == []


def test_no_failure_names_a_secret() -> None:
    for status in (400, 500):
        for shape, request in (("github", GITHUB), ("stripe", STRIPE._replace(new_facts={"endpoint_id": "we_1"}))):
            line = Line(Heard(status, b"the-new-secret-1 sk_key token", None))
            text = repr(failure(lambda: registrar(shape, line).set(request, NEW, OLD)))  # noqa: B023  # called at once
            text += repr(line.sent) + repr(Heard(200, NEW.reveal().encode(), None))
            assert not any(each.reveal() in text for each in (NEW, OLD, TOKEN, KEY))
