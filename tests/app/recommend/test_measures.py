"""Measures, bounds and the choice, against loops and formulas of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from app.benchmark.rows import Row
from app.datasets.dataset import Dataset, Given
from app.recommend.choice import Choice, choose
from app.recommend.data import Data, Queries
from app.recommend.goal import Goal
from app.recommend.measure import Measures, bounds
from app.recommend.pool import Pool
from app.recommend.race import Race
from app.recommend.words import headline
from hashing import InvalidInput
from hashing.methods.rabitq import RaBitQ
from tests.app.recommend.made import clusters, plain

TIGHT = clusters(400, noise=0.05)
"""Items of a cluster mostly have the same short code."""


@pytest.mark.parametrize(("k", "rerank"), [(1, 0), (1, 20), (3, 20), (1, 1000)])
@pytest.mark.parametrize(("method", "n_bits"), [("itq", 8), ("rabitq", 16)])
@pytest.mark.parametrize("dataset", [TIGHT, plain(150)])
def test_the_recall_is_that_of_a_search_without_the_query(
    dataset: Dataset, method: str, n_bits: int, k: int, rerank: int
) -> None:
    data = Data(dataset, Goal(recall=0.9, k=k, rerank=rerank), None, 0)
    measures, row = Measures(data), Row(method, n_bits)
    measures.measure(row, 25)
    for queries, part in ((data.choosing, slice(0, 25)), (data.confirming, slice(5, 20))):
        expected = expected_recalls(measures, row, queries, part, (k, rerank))
        np.testing.assert_allclose(measures.on(row, queries, part), expected)


def expected_recalls(
    measures: Measures, row: Row, queries: Queries, part: slice, goal: tuple[int, int]
) -> list[float]:
    """Return the recall of each query, where the order of ties is random."""
    hasher, X = measures.fitted[row].hasher, measures.data.database
    recalls = []
    for q in queries.X[part]:
        others = X[(q != X).any(axis=1)]
        assert len(others) == len(X) - 1
        if isinstance(hasher, RaBitQ):
            codes, factors = hasher.encode(others), hasher.factors(others)
            distances = hasher.estimate(q[None], codes, factors)[0]
        else:
            distances = np.bitwise_count(hasher.encode(q[None]) ^ hasher.encode(others)).sum(axis=1)
        true = np.argsort(((others.astype(float) - q) ** 2).sum(axis=1))[: goal[0]]
        first = min(max(goal), len(others))
        last = np.sort(distances)[first - 1]
        share = (first - (distances < last).sum()) / (distances == last).sum()
        found = np.where(distances[true] < last, 1.0, np.where(distances[true] == last, share, 0))
        recalls.append(float(found.mean()))
    return recalls


def test_equal_values_are_not_certain() -> None:
    for n in (1, 15, 300):
        sure = bounds(np.ones(n), np.zeros(n, np.int64), 0.05)
        # With this recall, n queries that miss nothing have a probability of 5 %.
        assert sure.low == pytest.approx(0.05 ** (1 / n))
    # Two of 100: with a share of 6.162 % two or fewer are seen with a probability of 5 %.
    two = bounds(np.repeat([0.0, 1.0], [2, 98]), np.zeros(100, np.int64), 0.05)
    assert two.low == pytest.approx(1 - 0.06162, abs=1e-5)
    spread = np.random.default_rng(0).normal(0, 0.4, 400)
    half = NormalDist().inv_cdf(0.95) * spread.std(ddof=1) / math.sqrt(400)
    found = bounds(spread, np.zeros(400, np.int64), 0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)


@pytest.mark.parametrize("n", [1, 29])
def test_few_queries_of_the_datasets_own_are_refused(n: int) -> None:
    own = Given(plain(n, seed=3).descriptors, None, "euclidean")
    with pytest.raises(InvalidInput, match=f"needs at least 30 queries .* got {n}$"):
        Data(replace(plain(200), given=own), Goal(recall=0.8), None, 0)


def test_queries_without_a_relevant_item_do_not_count() -> None:
    made = clusters(120)
    alone = replace(made, labels=np.where(np.arange(120) < 100, 10 + np.arange(120), made.labels))
    with pytest.raises(InvalidInput, match="needs at least 30 queries that have something to find"):
        Data(alone, Goal(within=2), None, 0)
    some = replace(made, labels=np.where(np.arange(120) < 10, 10 + np.arange(120), made.labels))
    data = Data(some, Goal(within=2), None, 0)
    assert len(data.choosing) + len(data.confirming) < 40
    assert data.choosing.raw is not None
    assert not np.isnan(data.choosing.raw).any()


def race_of(means: dict[int, tuple[float, float]], n: int = 200) -> Race:
    """Return a race that has ended: by bits, the means of the choosing and confirming queries."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.2, (2, n))
    noise -= noise.mean(axis=1, keepdims=True)
    values = {Row("lsh", n_bits): both[0] + noise[0] for n_bits, both in means.items()}
    confirming = {Row("lsh", n_bits): both[1] + noise[1] for n_bits, both in means.items()}
    classes = np.zeros(n, np.int64)
    queries = Queries(np.zeros((n, 2), np.float32), classes, [], None, None)
    data = SimpleNamespace(
        goal=Goal(recall=0.5),
        choosing=queries,
        confirming=queries,
        uses_labels=False,
        database=np.zeros((1, 256), np.float32),
    )
    measures: Any = Measures(cast("Any", data))
    measures.values = values
    measures.on = lambda row, *_: confirming[row]
    return Race(measures, Pool(["lsh"], 512, uses_labels=False), None, lambda *_: None)


# The distance of bounds that each fail with this probability, for the values of `race_of`.
def half_width(outside: float) -> float:
    return NormalDist().inv_cdf(1 - outside) * 0.2 / math.sqrt(200)


def test_the_intervals_of_all_candidates_hold_together_with_95_percent() -> None:
    race = race_of({8: (0.4, 0.4), 16: (0.5, 0.5), 32: (0.6, 0.6)})
    for row in race.ordered():
        found = race.standing(row)
        # Two ends of three intervals.
        assert found.high - found.mean == pytest.approx(half_width(0.05 / 6), rel=0.08)
        assert found.mean - found.low == pytest.approx(half_width(0.05 / 6), rel=0.08)


def test_each_of_three_confirmations_has_its_share_of_5_percent() -> None:
    margin = half_width(0.05 / 2)  # Enough for the first of two, not for one of three.
    first = choose(race_of({8: (0.6, 0.5 + margin), 16: (0.61, 0.7), 32: (0.62, 0.7)}))
    assert first.sure
    assert first.confirmation.row == Row("lsh", 16)
    found = first.confirmation.gain
    assert found.mean - found.low == pytest.approx(half_width(0.05 / 3), rel=0.08)
    assert first.refuted == [Row("lsh", 8)]


@pytest.mark.parametrize(
    ("means", "n_bits", "reached", "sure"),
    [
        # None seems to reach it by the choosing queries, but the nearest does.
        ({8: (0.4, 0.4), 16: (0.49, 0.505)}, 16, True, False),
        ({8: (0.4, 0.4), 16: (0.49, 0.6)}, 16, True, True),
        ({8: (0.4, 0.4), 16: (0.49, 0.48)}, 16, False, False),
        # Three smaller ones fail; the one that is best by far is confirmed before that is said.
        ({8: (0.6, 0.4), 16: (0.6, 0.4), 24: (0.6, 0.4), 32: (0.9, 0.9)}, 32, True, True),
    ],
)
def test_the_nearest_candidate_is_always_confirmed(
    means: dict[int, tuple[float, float]], n_bits: int, reached: bool, sure: bool
) -> None:
    race = race_of(means)
    found: Choice = choose(race)
    assert found.confirmation.row == Row("lsh", n_bits)
    assert (found.reached, found.sure) == (reached, sure)
    words = {
        skipped: headline(found, race.measures.data, skipped=skipped) for skipped in (False, True)
    }
    assert words[False].startswith("Use" if reached else "No candidate reaches the goal")
    assert words[True].startswith(
        "Use" if reached else "None of the candidates that were tried reach"
    )
