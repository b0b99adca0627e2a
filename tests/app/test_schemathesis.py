"""The service keeps to its OpenAPI document, whatever it is asked and in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance, use_after_free

from app.main import create_app
from app.settings import Settings

QUICK, LONG = 4, 160
"""Cases of each call: in every run of the tests, and in `make bench`."""

# A schema cannot say that rows are of one length, or that there is such a dataset.
LEFT_OUT = [positive_data_acceptance]


class Bare:
    """An application that runs already: whoever calls it neither starts nor stops it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.requests += 1
        await self.app(scope, receive, send)


@pytest.fixture
def app(settings: Settings) -> Iterator[Bare]:
    """A service that takes few jobs, and small ones: what they give is tested elsewhere."""
    app = create_app(settings.model_copy(update={"max_jobs": 1, "job_workers": 1}))
    with TestClient(app) as client:
        new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 2}
        client.post("/v1/encoders", json=new)
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        client.put("/v1/collections/c/items", json={"items": [{"id": "a", "descriptor": [1, 2]}]})
        yield Bare(app)


def settings_of(cases: int, steps: int = 1) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=cases,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def each_call(app: Bare, cases: int) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @settings_of(cases)
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=LEFT_OUT)

        check()


def in_order(app: Bare, cases: int) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    class Calls(schema.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            left_out = [*LEFT_OUT]
            if case.path.startswith("/v1/jobs/"):
                left_out.append(use_after_free)  # Who cancels a job may still look at it.
            case.validate_response(response, excluded_checks=left_out, recorder=self.recorder)

    Calls.run(settings=settings_of(cases, steps=10))


def test_each_call(app: Bare) -> None:
    each_call(app, QUICK)
    assert app.requests >= 20 * QUICK


def test_calls_after_one_another(app: Bare) -> None:
    in_order(app, QUICK)
    assert app.requests > QUICK


@pytest.mark.slow
def test_three_thousand_cases(app: Bare) -> None:
    each_call(app, LONG)
    in_order(app, LONG)
    assert app.requests >= 3000
