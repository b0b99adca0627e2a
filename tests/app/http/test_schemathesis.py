"""Generated requests, single and in sequences, get answers that match the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    ensure_resource_availability,
    positive_data_acceptance,
    use_after_free,
)

from app.main import create_app
from app.service.settings import Settings
from tests.app.asgi_client import TestClient

QUICK, LONG = 2, 160
"""Cases per call: in every run of the tests, and in `make bench`."""

# A schema cannot state that rows have the same length, or that a dataset exists.
LEFT_OUT: list[Any] = [positive_data_acceptance]


class Service:
    """A running application: callers neither start nor stop it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = 0
        self.requests = 0
        self.running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start again with one collection and room for one job; other tests are about jobs."""
        self.running.close()
        self.started += 1
        self.app = create_app(
            Settings(
                data_dir=self.folder / str(self.started),
                demo=False,
                max_body=1 << 20,
                max_jobs=1,
                job_workers=1,
                allowed_hosts="testserver",
            )
        )
        client = self.running.enter_context(TestClient(self.app))
        new = {"name": "e", "method": "lsh", "n_bits": 12, "dimension": 2}
        client.post("/v1/encoders", json=new)
        client.post("/v1/collections", json={"name": "c", "encoder": "e"})
        client.put("/v1/collections/c/items", json={"items": [{"id": "a", "descriptor": [1, 2]}]})

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
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.running.close()


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


def each_call(service: Service, cases: int) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", service)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @settings_of(cases)
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(excluded_checks=LEFT_OUT)

        check()


def in_order(service: Service, cases: int) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", service)

    class Calls(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            service.start()

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            left_out = [*LEFT_OUT]
            if case.path.startswith("/v1/jobs/"):
                left_out.append(use_after_free)  # A cancelled job still exists.
            if case.path.endswith("/restore"):
                # A 404 is about the snapshot, not about the collection.
                left_out.append(ensure_resource_availability)
            case.validate_response(response, excluded_checks=left_out, recorder=self.recorder)

    Calls.run(settings=settings_of(cases, steps=10))


def test_each_call(service: Service) -> None:
    each_call(service, QUICK)
    assert service.requests >= 20 * QUICK


def test_calls_after_one_another(service: Service) -> None:
    in_order(service, QUICK)
    assert service.requests > QUICK


@pytest.mark.slow
def test_three_thousand_cases(service: Service) -> None:
    each_call(service, LONG)
    in_order(service, LONG)
    assert service.requests >= 3000
