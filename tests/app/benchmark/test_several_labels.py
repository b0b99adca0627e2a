"""Benchmarks of items with several labels: relevant is what shares one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from app.benchmark.report.pictures import make_sheet
from app.benchmark.report.render import render
from app.benchmark.rows import rows
from app.benchmark.run import run
from app.benchmark.splits import UNSEEN, UNSEEN_ONLY, Protocol, describe, split
from app.benchmark.tuning import hold_out
from app.cli.main import cli
from app.datasets.dataset import Dataset
from hashing import InvalidInput

RNG = np.random.default_rng(0)
SETS = RNG.random((900, 6)) < [0.08, 0.1, 0.2, 0.3, 0.5, 0.1]
NAMES = np.array(["ant", "bee", "cat", "dog", "elk", "fox"])
MEANS = RNG.normal(size=(6, 16))
FEW = Protocol(queries_per_class=10, labels_per_class=15)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    X = SETS @ MEANS + 0.7 * RNG.normal(size=(900, 16))
    images = RNG.integers(0, 256, (900, 4, 4, 3)).astype(np.uint8)
    return Dataset(
        "sets", X.astype(np.float32), np.full(900, -1), np.arange(900).astype(str), NAMES,
        label_sets=SETS, images=images,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> dict[str, Any]:
    table = rows(["raw", "classifier", "net-1", "sdh"], [16])
    return run(dataset, table, FEW, [0, 1], tune=True)


def shared(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> bool:
    return bool(set(np.flatnonzero(a).tolist()) & set(np.flatnonzero(b).tolist()))


def test_every_class_has_its_queries_and_labels() -> None:
    parts = split(SETS, FEW, 3)
    assert sorted([*parts.queries, *parts.database]) == list(range(900))
    assert (SETS[parts.queries].sum(axis=0) >= 10).all()
    assert (parts.y.sum(axis=0) >= 15).all()
    taught = parts.y.any(axis=1)
    # Each draw is for one class, so that no more are drawn than for one label each.
    assert len(parts.queries) <= 60
    assert np.count_nonzero(taught) <= 90
    np.testing.assert_array_equal(parts.y[taught], SETS[parts.database][taught])
    drawn = list(zip(parts.queries, parts.query_classes, strict=True))
    assert all(SETS[item, label] for item, label in drawn)


def test_one_label_each_gives_the_same_split_in_both_forms() -> None:
    labels = RNG.permutation(np.repeat([-1, 0, 1, 2], [20, 300, 400, 500]))
    one, sets = (split(form, FEW, 5) for form in (labels, np.eye(4, dtype=bool)[labels][:, :3]))
    for name in ("queries", "database", "query_classes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(sets, name))
    np.testing.assert_array_equal(np.eye(4, dtype=bool)[one.y][:, :3], sets.y)
    assert describe(FEW, labels, [5]) == describe(FEW, np.eye(4, dtype=bool)[labels][:, :3], [5])


@pytest.mark.parametrize("protocol", [UNSEEN, UNSEEN_ONLY])
def test_classes_cannot_be_unseen(protocol: str) -> None:
    with pytest.raises(InvalidInput, match=f"{protocol} needs one label per item"):
        split(SETS, Protocol(protocol), 0)


def test_a_quarter_of_each_class_is_held_out() -> None:
    held_out = hold_out(SETS, 0)
    for label in range(6):
        members = SETS[:, label]
        assert held_out[members].sum() >= members.sum() // 4
    assert held_out.sum() < 0.5 * len(SETS)


def test_the_precision_is_that_of_a_loop_over_sets(
    dataset: Dataset, result: dict[str, Any]
) -> None:
    for seed in (0, 1):
        parts = split(SETS, FEW, seed)
        values = []
        for query in parts.queries:
            gaps = dataset.descriptors[parts.database] - dataset.descriptors[query]
            order = parts.database[np.argsort((gaps.astype(float) ** 2).sum(axis=1))]
            hits = np.array([shared(SETS[query], SETS[item]) for item in order])
            values.append((hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean())
        assert result["results"][0]["maps"][seed] == pytest.approx(np.mean(values), abs=1e-9)
    assert result["dataset"]["classes"] == 6
    assert "at least 10 items of each class are queries" in render(result, dataset)


def test_methods_for_one_label_each_say_so(result: dict[str, Any]) -> None:
    _, classifier, net, sdh = result["results"]
    assert classifier["error"] == "classifier needs one label per item, but items have several"
    assert "one label per item" in net["error"] or "torch" in net["error"]
    assert sdh["map"] > result["results"][0]["map"] - 0.05
    assert sdh["tuned"]


def test_the_sheet_names_all_labels(dataset: Dataset, result: dict[str, Any]) -> None:
    sheet = make_sheet(result, dataset)
    assert sheet is not None
    drawn_for = split(SETS, FEW, 0).query_classes
    assert len(sheet.cards) == len(np.unique(drawn_for))
    for card in sheet.cards:
        assert card.class_name == ", ".join(NAMES[SETS[card.query]])
        for near in card.strips[0].neighbours:
            assert near.right == shared(SETS[card.query], SETS[near.position])


def test_the_command_line_benchmarks_and_trains_on_such_a_file(
    dataset: Dataset, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITCELL_DATA_DIR", str(tmp_path))
    path = tmp_path / "sets.npz"
    np.savez(path, descriptors=dataset.descriptors, labels=SETS, class_names=NAMES)

    def call(*words: str) -> Any:
        return CliRunner().invoke(cli, list(words))

    few = ["--methods", "raw,ksh", "--bits", "8", "--queries", "10", "--labels", "15"]
    done = call("benchmark", "--dataset", str(path), *few, "--json", str(tmp_path / "r.json"))
    assert done.exit_code == 0, done.output
    measured = json.loads((tmp_path / "r.json").read_text())
    assert measured["protocol"]["name"] == "retrieval-59k"
    assert all("map" in row for row in measured["results"])
    out = str(tmp_path / "e.safetensors")
    trained = call("train", "--method", "sdh", "--bits", "16", "--dataset", str(path), "--out", out)
    assert trained.exit_code == 0, trained.output
    for command in (("label-next", "--dataset", str(path)), ("load", "c", str(path))):
        refused = call(*command)
        assert isinstance(refused.exception, ValueError), refused.output
        assert "have several labels each" in str(refused.exception)
