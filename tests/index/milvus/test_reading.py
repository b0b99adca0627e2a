"""Reads of many items, against a stand-in for Milvus that holds serial numbers only."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pymilvus")

from index.milvus import reading
from index.milvus.server.columns import Columns
from index.milvus.server.physical import REACH, at

NOW = at("session", 1)


class Serials:
    """Items with these serial numbers, whose codes are the last bytes of these."""

    def __init__(self, there: NDArray[np.int64], most: int) -> None:
        self.there, self.most, self.calls = set(there.tolist()), most, 0

    def query(self, where: str, *_: Any) -> Columns:
        self.calls += 1
        assert self.calls <= self.most, "it calls again and again"
        wanted = json.loads(where.removeprefix("serial in "))
        assert 0 < len(wanted) <= REACH
        serials = np.array([each for each in wanted if each in self.there], np.int64)
        codes = (serials % 256).astype(np.uint8)[:, None]
        return Columns(list(map(str, serials)), codes, serials, serials, [], [])


@pytest.mark.parametrize(
    ("n", "gap", "limit"), [(1000, 1, 500), (1000, 19, 500), (60_000, 3, 30_000)]
)
def test_half_of_the_items_are_sampled_in_few_calls(n: int, gap: int, limit: int) -> None:
    serials = Serials(gap * np.arange(n), 30)
    codes = reading.sample(serials, n, gap * n, limit, 0, NOW)  # type: ignore[arg-type]
    assert codes is not None
    assert len(codes) == limit
    # Each item at most once.
    most = np.bincount(gap * np.arange(n) % 256, minlength=256)
    assert (np.bincount(codes[:, 0], minlength=256) <= most).all()


@pytest.mark.parametrize(("there", "limit"), [(1000, 501), (1000, 999), (0, 10), (5, 100)])
def test_a_sample_that_would_take_many_calls_is_given_up(there: int, limit: int) -> None:
    """Of 1,000 items, of which only some are still there."""
    serials = Serials(np.arange(there), 30)
    assert reading.sample(serials, 1000, 1000, limit, 0, NOW) is None  # type: ignore[arg-type]
