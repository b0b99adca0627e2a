"""A service to attack, shared by all attacks that leave it usable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.abuse.siege import LimitedService


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LimitedService]:
    service = LimitedService(tmp_path_factory.mktemp("abuse") / "data")
    yield service
    log = service.stop()
    assert "Traceback" not in log, log
