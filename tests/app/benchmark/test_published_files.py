"""Recall on a file as ann-benchmarks publishes it, which the test makes with h5py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tests.app.cli.test_main import bitcell


def write_file(path: Path, n: int, d: int) -> None:
    """Write correlated vectors, 100 queries, and their true neighbours by another search."""
    rng = np.random.default_rng(0)
    spread = np.diag(1 / np.arange(1, d + 1) ** 0.5)
    points = rng.normal(size=(n + 100, d)) @ spread @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    points = points.astype(np.float32)
    neighbours = cdist(points[n:], points[:n]).argsort(axis=1)[:, :100]
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "euclidean"
        file["train"], file["test"] = points[:n], points[n:]
        file["neighbors"] = neighbours.astype(np.int32)


def benchmark(path: Path, bits: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    line = f"benchmark --dataset {path} --methods raw,sign,lsh,itq --bits {bits} --json out.json"
    assert bitcell(monkeypatch, line) == 0
    result: dict[str, Any] = json.loads(Path("out.json").read_text())
    assert result["protocol"]["given_neighbours"]
    assert result["dataset"]["queries"] == 100
    assert result["results"][0]["recall"] == 1.0  # `raw`: the neighbours of the file are right.
    for row in result["results"]:
        figures = [row[key] for key in ("recall", "recall_rerank_100", "recall_rerank_1000")]
        assert figures == sorted(figures)
    return result


def test_a_small_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "small", 1500, 16)
    benchmark(tmp_path / "small", "8", monkeypatch)
    printed = capsys.readouterr().out
    assert "small, neighbours: 100 queries of its own, 1,500 in the database, k 10, euc" in printed
    assert "the true neighbours of the file" in printed
    table = [line for line in printed.splitlines() if line.startswith(("method", "sign", "itq"))]
    assert len(table) == 3
    assert max(map(len, table)) <= 80


@pytest.mark.slow
def test_recall_grows_with_the_length_and_with_reranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "full.hdf5", 20_000, 128)
    result = benchmark(tmp_path / "full.hdf5", "32,64,128", monkeypatch)
    found = {(row["method"], row["n_bits"]): row for row in result["results"]}
    for method in ("lsh", "itq"):
        by_length = [found[method, n_bits]["recall"] for n_bits in (32, 64, 128)]
        assert by_length == sorted(by_length)
    for n_bits in (32, 64, 128):
        assert found["itq", n_bits]["recall"] > found["lsh", n_bits]["recall"]
    assert found["itq", 128]["recall_rerank_1000"] > 0.8
