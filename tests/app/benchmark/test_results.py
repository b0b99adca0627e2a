"""The rows of a result, from figures that are made up."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from app.benchmark.averages import confidence_interval
from app.benchmark.measure import Measured
from app.benchmark.results import result_rows
from app.benchmark.rows import Row, check_reference
from app.benchmark.run import run
from app.benchmark.splits import Protocol
from app.datasets.dataset import Dataset
from hashing import InvalidInput

CLASSES = np.arange(40) % 4
RAW, A8, B8, C8, A16 = (
    Row("raw", None),
    *(Row(method, 8) for method in "abc"),
    Row("a", 16),
)


def figures(precisions: NDArray[np.float64]) -> Measured:
    return Measured(precisions, {"p": 0.5, "q": None}, np.zeros((2, 2)), np.zeros((1, 1), np.intp))


def measured(rows: list[Row], n_seeds: int) -> dict[Row, list[Measured]]:
    """Figures that differ by row, seed and query; each later row is better by 0.05."""
    rng = np.random.default_rng(0)
    shared = [0.4 + 0.05 * rng.normal() + 0.1 * rng.normal(size=40) for _ in range(n_seeds)]
    return {
        row: [figures(each + 0.05 * i + 0.02 * rng.normal(size=40)) for each in shared]
        for i, row in enumerate(rows)
    }


def table(
    rows: list[Row], n_seeds: int = 3, reference: str | None = None
) -> tuple[dict[Row, list[Measured]], dict[Row, dict[str, Any]]]:
    found = measured(rows, n_seeds)
    results = result_rows(rows, found, {}, [CLASSES] * n_seeds, reference)
    return found, dict(zip(rows, results, strict=True))


def test_means_and_spread_are_those_of_the_seeds() -> None:
    found, results = table([A8, B8])
    for row, result in results.items():
        maps = [float(one.precisions.mean()) for one in found[row]]
        assert result["maps"] == pytest.approx(maps)
        assert result["map"] == pytest.approx(statistics.fmean(maps))
        # The sample standard deviation, with n - 1.
        assert result["map_spread"] == pytest.approx(statistics.stdev(maps))
        assert result["map_interval"] == pytest.approx(t_interval(maps))
        assert (result["p"], result["q"]) == (0.5, None)
    assert table([A8], n_seeds=1)[1][A8]["map_spread"] is None


def t_interval(means: list[float]) -> list[float]:
    return list(stats.t.interval(0.95, len(means) - 1, np.mean(means), stats.sem(means)))


def test_differences_are_paired_with_the_best_of_the_same_length() -> None:
    found, results = table([RAW, A8, B8, C8, A16])
    for row in (A8, B8):
        difference = results[row]["difference"]
        pairs = zip(found[row], found[C8], strict=True)
        means = [float((own.precisions - best.precisions).mean()) for own, best in pairs]
        assert difference["reference"] == "c"
        assert difference["mean"] == pytest.approx(statistics.fmean(means))
        low, high = t_interval(means)
        assert difference["interval"][0] <= low + 1e-12
        assert difference["interval"][1] >= high - 1e-12
        # The seeds agree on the difference far better than on the two means.
        assert np.ptp(difference["interval"]) < 0.5 * np.ptp(results[row]["map_interval"])
    for row in (RAW, C8, A16):
        assert results[row]["difference"] is None


@pytest.mark.parametrize(
    ("reference", "with_difference"), [("raw", [A8, B8, A16]), ("a", [B8]), ("b", [A8])]
)
def test_a_named_reference_is_compared_with(reference: str, with_difference: list[Row]) -> None:
    results = table([RAW, A8, B8, A16], reference=reference)[1]
    named = {row: result["difference"] for row, result in results.items() if result["difference"]}
    assert list(named) == with_difference
    assert {each["reference"] for each in named.values()} == {reference}


def test_intervals_stay_within_what_is_possible() -> None:
    high = {A8: [figures(np.full(40, value)) for value in (0.9, 1.0)]}
    low = {B8: [figures(np.full(40, value)) for value in (0.0, 0.2)]}
    first, second = result_rows([A8, B8], high | low, {}, [CLASSES] * 2, None)
    assert first["map_interval"][1] == 1.0
    assert second["map_interval"][0] == 0.0
    assert second["difference"]["interval"][0] == -1.0


def test_a_row_that_failed_has_only_its_error_and_is_no_reference() -> None:
    found = measured([A8, B8], 2)
    errors = {B8: "too long"}
    first, second = result_rows([A8, B8], found, errors, [CLASSES] * 2, "b")
    assert second == {"method": "b", "n_bits": 8, "error": "too long"}
    assert first["difference"] is None


def test_a_repeated_seed_counts_once() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    X = (rng.normal(size=(60, 4)) + labels[:, None]).astype(np.float32)
    dataset = Dataset("d", X, labels, labels.astype(str))
    once, twice = (run(dataset, [RAW], Protocol(), seeds) for seeds in ([0, 1], [0, 1, 0, 1]))
    assert twice["protocol"]["seeds"] == [0, 1]
    assert twice["results"][0]["map_interval"] == once["results"][0]["map_interval"]


def test_a_reference_must_be_a_method_of_the_table() -> None:
    check_reference("a", [A8])
    check_reference(None, [A8])
    with pytest.raises(InvalidInput, match="one of the methods, raw, a; got 'ksh'"):
        check_reference("ksh", [RAW, A8])


def blobs() -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    X = rng.normal(size=(120, 8)).astype(np.float32) + 2 * np.eye(3, 8, dtype=np.float32)[labels]
    return Dataset("blobs", X, labels, np.arange(120).astype(str))


def interrupt_at(step: int) -> Callable[[int, int, str], None]:
    """Return a `progress` that stands for Ctrl-C after some rows."""

    def progress(done: int, total: int, description: str) -> None:
        if done >= step and ":" in description and "neighbours" not in description:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_benchmark_has_the_rows_measured_until_then() -> None:
    rows = [Row("lsh", 8), Row("itq", 8), Row("lsh", 4)]
    whole = run(blobs(), rows, Protocol(), [0, 1])
    part = run(blobs(), rows, Protocol(), [0, 1], interrupt_at(4))
    for row, complete in zip(part["results"], whole["results"], strict=True):
        assert row["maps"] == complete["maps"][: len(row["maps"])]
    assert [len(row["maps"]) for row in part["results"]] == [2, 1, 1]
    # The difference is that of the one seed that both have.
    difference = part["results"][0]["difference"] or part["results"][1]["difference"]
    lsh, itq, _ = (row["maps"][0] for row in part["results"])
    assert abs(difference["mean"]) == pytest.approx(abs(lsh - itq))
    assert part["interrupted"] == (
        "The benchmark was interrupted. Not measured: itq, 8 bits (seed 1); lsh, 4 bits (seed 1)."
    )
    assert "interrupted" not in whole


def test_a_benchmark_that_is_interrupted_after_its_last_row_is_complete() -> None:
    def progress(done: int, total: int, description: str) -> None:
        if description == "done":
            raise KeyboardInterrupt

    rows = [Row("lsh", 8)]
    found = run(blobs(), rows, Protocol(), [0], progress)
    assert "interrupted" not in found
    assert found["results"][0]["maps"] == run(blobs(), rows, Protocol(), [0])["results"][0]["maps"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_benchmark_that_is_interrupted_during_its_statistics_keeps_its_rows(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(blobs(), [Row("lsh", 8)], Protocol(), [0])["results"][0]["maps"]
    interruptions = iter([True] * times)

    def interrupted(*given: Any) -> Any:
        if next(interruptions, False):
            raise KeyboardInterrupt
        return confidence_interval(*given)

    monkeypatch.setattr("app.benchmark.results.confidence_interval", interrupted)
    if times == 2:
        with pytest.raises(KeyboardInterrupt):
            run(blobs(), [Row("lsh", 8)], Protocol(), [0])
        return
    found = run(blobs(), [Row("lsh", 8)], Protocol(), [0])
    assert found["results"][0]["maps"] == expected
    assert "interrupted" not in found


def test_rows_that_an_interrupted_benchmark_did_not_reach_say_so() -> None:
    rows = [Row("lsh", 8), Row("pcah", 99), Row("lsh", 4)]
    part = run(blobs(), rows, Protocol(), [0], interrupt_at(2))
    assert "maps" in part["results"][0]
    assert "99" in part["results"][1]["error"]
    assert "interrupted" in part["results"][2]["error"]
    assert part["interrupted"].endswith("Not measured: lsh, 4 bits (seed 0).")
    with pytest.raises(KeyboardInterrupt):
        run(blobs(), rows, Protocol(), [0], interrupt_at(0))
