"""A service over an index that can do less than the embedded one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import TooLarge
from app.service.service import Service
from hashing import InvalidInput
from index import store
from tests.app.conftest import settings_in

X = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    less = replace(store._CAPABILITIES, reach=50, batch=10, estimates=False)
    monkeypatch.setattr(store, "_CAPABILITIES", less)
    service = Service(settings_in(tmp_path))
    service.encoders.create("e", "rabitq", 8, {}, descriptors=X)
    yield service
    service.close()


def test_searches_reach_no_further_than_the_index(service: Service) -> None:
    assert service.searches.options(40, None, offset=10).depth == 50
    # Without k, all within the radius are wanted, as far as the index reaches.
    assert service.searches.options(None, 3).k == 50
    assert service.searches.options(None, 3, offset=10).k == 40
    cases: list[dict[str, Any]] = [{"offset": 11}, {"rerank": 51}]
    for more in cases:
        with pytest.raises(InvalidInput, match="offset \\+ k, and rerank, are at most 50, got 51"):
            service.searches.options(40, None, **more)


def test_writes_have_no_more_items_than_the_index_takes(service: Service) -> None:
    service.collections.create("c", "e")
    ids = [f"{i}" for i in range(20)]
    service.collections.upsert("c", ids[:10], X[:10])
    with pytest.raises(TooLarge, match=r"the index takes at most 10 items in a write.* 20"):
        service.collections.upsert("c", ids, X)
    with pytest.raises(TooLarge, match="at most 10 items"):
        service.collections.patch("c", ids, [{"label": 1}] * 20)


def test_only_an_index_that_estimates_has_such_collections(service: Service) -> None:
    with pytest.raises(InvalidInput, match="needs an index that estimates distances"):
        service.collections.create("c", "e", ranking="estimate")
    assert service.collections.list() == []
    service.collections.create("c", "e", True)
    service.collections.upsert("c", ["a"], X[:1])
    with pytest.raises(InvalidInput, match="needs an index that estimates distances"):
        service.collections.reencode("c", "e", ranking="estimate")
