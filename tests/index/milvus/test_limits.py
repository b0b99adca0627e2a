"""Reads and writes that are larger than Milvus takes, or that it refuses for now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from index import SearchOptions, Store, backend

CODES = np.random.default_rng(0).integers(0, 4, (200, 1), np.uint8)
IDS = [f"{i:03d}" for i in np.random.default_rng(1).permutation(200)]


@pytest.mark.parametrize("most", [0, 50])
def test_ties_with_payloads_stay_within_what_milvus_answers(
    store: Store, collection: backend.Collection, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    from index.milvus import search
    from index.milvus.server.connection import TooMuch
    from index.milvus.server.physical import REACH, Physical

    found = Physical.search

    def limited(self: Any, codes: Any, limit: int, fields: Any, *more: Any) -> Any:
        if not {"payload", "code"}.isdisjoint(fields) and len(codes) * limit > most:
            raise TooMuch("maxOutputSize")
        return found(self, codes, limit, fields, *more)

    monkeypatch.setattr(Physical, "search", limited)
    payloads = [{"n": i} for i in range(200)]
    both: list[backend.Collection] = [store.create("c", 8), collection]
    for each in both:
        each.upsert(IDS, CODES, None, payloads)
    options = SearchOptions(5, payloads=True, codes=True)
    for reach in (REACH, 64, 24):
        monkeypatch.setattr(search, "REACH", reach)
        expected, answers = (each.search(CODES[:2], options) for each in both)
        assert [each.neighbours for each in answers] == [each.neighbours for each in expected]
