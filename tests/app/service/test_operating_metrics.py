"""Metrics for operators: the version, the free disk, and how queries are searched."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from index import SearchOptions, searches_by_path
from tests.app.asgi_client import TestClient
from tests.index.conftest import opened
from tests.index.search.test_exact import tables_wherever_possible


def values(client: TestClient) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_version_and_free_disk(client: TestClient, tmp_path: Path) -> None:
    found = values(client)
    assert found["bitcell_build_info", version("bitcell")] == 1
    free = shutil.disk_usage(tmp_path).free
    assert abs(found["bitcell_disk_free_bytes", ""] - free) < 1 << 30


def test_no_series_says_when_another_was_made(small: TestClient) -> None:
    assert not [name for name, _ in values(small) if name.endswith("_created")]


def test_each_query_is_counted_by_its_path(small: TestClient) -> None:
    before = values(small)["bitcell_searches_total", "scan"]
    small.post("/v1/collections/c/query", json={"descriptors": [[1, 2, 3, 4], [4, 3, 2, 1]]})
    assert values(small)["bitcell_searches_total", "scan"] == before + 2


def test_searches_by_tables_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables_wherever_possible(monkeypatch)
    codes = np.random.default_rng(0).integers(0, 256, (1000, 8), np.uint8)
    with opened(tmp_path / "bitcell.db") as (_, store):
        collection = store.create("c", 64)
        collection.upsert([f"{i}" for i in range(len(codes))], codes)
        store.settle()
        before = searches_by_path()
        collection.search(codes[:3], SearchOptions(1, radius=1))
        after = searches_by_path()
    assert sum(after.values()) == sum(before.values()) + 3
    assert after["tables"] > before["tables"]
