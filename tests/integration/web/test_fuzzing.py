"""The description and the server agree, whatever is asked: a fuzzer of schemas against a real server.

Seeded, so that what it finds it finds again. Half of what it sends is as described, half is not; where an id is
wanted, it is often one that exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.house import House
from tests.integration.web.front import Client, Front, opened
from tests.simulator import SimulatorProcess
from tests.support import stack
from vault import SCOPES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 6
"""Of each operation and each sort."""
SEED = 20
WHAT = ("tokens", "connects", "introspections", "others", "strangers")
UNLIMITED = {f"http_rate_{what}": 0.0 for what in WHAT}


@pytest.fixture(scope="module")
def front(
    postgres: stack.DatabaseServer, template_database: str, simulator: SimulatorProcess, tmp_path_factory: Any
) -> Iterator[Front]:
    with stack.new_database(postgres, template_database) as url:
        house = House(url, simulator, tmp_path_factory.mktemp("house"))
        with opened(house, **UNLIMITED, get_deadline_s=0.1) as made:
            yield made
        house.close()


@pytest.fixture(scope="module")
def known(front: Front) -> dict[str, list[UUID]]:
    """Ids there are, by the name of the parameter that takes one."""
    vault = front.vault
    credentials = [vault.store_secret("cnry"), vault.store_api_key("cnry"), vault.store_webhook_secret()]
    return {"connection_id": [front.connect() for _ in range(3)], "credential_id": credentials}


@pytest.fixture(scope="module")
def description(front: Front) -> dict[str, Any]:
    found: dict[str, Any] = Client(front.api).get("/openapi.json").json()
    return found


@pytest.mark.timeout(180)
def test_no_request_meets_a_server_error_or_an_answer_that_is_not_described(
    front: Front, description: dict[str, Any], known: dict[str, list[UUID]]
) -> None:
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=front.base)
    key, seen = front.key(), Counter[int]()
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # a description of ours
    assert len(operations) >= 24
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @hypothesis.seed(SEED)
            @hypothesis.settings(
                max_examples=EXAMPLES,
                database=None,
                deadline=None,
                derandomize=False,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode), data=st.data())
            def ask(case: Any, data: st.DataObject) -> None:
                for name, ids in known.items():
                    if name in (case.path_parameters or {}) and data.draw(st.booleans()):
                        case.path_parameters[name] = str(data.draw(st.sampled_from(ids)))
                if "provider" in (case.path_parameters or {}) and data.draw(st.booleans()):
                    case.path_parameters["provider"] = "acme"
                answer = case.call(headers={"Authorization": f"Bearer {key}"}, allow_redirects=False, timeout=20)
                seen[answer.status_code] += 1
                case.validate_response(answer, checks=CHECKS)

            try:
                ask()
            except hypothesis.errors.Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, "nothing can be wrong about it"
    assert {200, 202, 204, 400, 404, 422} <= set(seen)


def test_everything_that_is_described_is_there_and_says_what_scope_it_takes(description: dict[str, Any]) -> None:
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            said = operation["description"]
            keyed = operation.get("security", [{}]) and {} not in operation.get("security", [{}])
            assert not keyed or any(f"`{scope}`" in said for scope in SCOPES), f"{method} {path}"
            assert "422" not in operation["responses"] or "problem+json" in str(operation["responses"]["422"])
