"""Average precision with ties, against its definition and scikit-learn."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from app.benchmark.rank import rank_asymmetric, rank_codes
from app.benchmark.tied_rankings import harmonic_numbers
from bitcodes import hamming, pack
from hashing import InvalidInput
from tests.average_precision import (
    average_precision,
    average_precision_euclidean,
    mean_average_precision,
)


def average_precision_of(ranking: list[bool]) -> float:
    """Average precision of one ranking without ties, from its definition."""
    hits = [rank for rank, relevant in enumerate(ranking, 1) if relevant]
    return sum(i / rank for i, rank in enumerate(hits, 1)) / len(hits)


def mean_over_orders(distances: NDArray[Any], relevant: NDArray[Any]) -> float:
    """Mean over all orders of the database that sort it by distance."""
    orders = [
        [bool(relevant[i]) for i in order]
        for order in permutations(range(len(distances)))
        if all(distances[a] <= distances[b] for a, b in pairwise(order))
    ]
    return float(np.mean([average_precision_of(order) for order in orders]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 4))
def test_it_is_the_mean_over_all_orders_of_tied_items(seed: int, m: int, n_bits: int) -> None:
    rng = np.random.default_rng(seed)
    query, db = pack(rng.normal(size=(1, n_bits))), pack(rng.normal(size=(m, n_bits)))
    labels = rng.integers(0, 2, m)
    labels[0] = 1
    expected = mean_over_orders(hamming(query, db)[0], labels == 1)
    assert average_precision(query, np.array([1]), db, labels)[0] == pytest.approx(
        expected, abs=1e-9
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_euclidean_is_the_mean_over_all_orders_of_tied_items(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    # Integers with an integer mean: their distances are exact in float32, so some tie.
    db = rng.integers(-2, 3, (m, 2)).astype(np.float32)
    db = np.concatenate([db, -db])[: 2 * m]
    query = rng.integers(-2, 3, (1, 2)).astype(np.float32)
    labels = rng.integers(0, 2, len(db))
    labels[0] = 1
    db, labels = db[:7], labels[:7]
    db[-1] -= db.sum(axis=0)
    expected = mean_over_orders(((query - db) ** 2).sum(axis=1), labels == 1)
    measured = average_precision_euclidean(query, np.array([1]), db, labels)[0]
    assert measured == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 12))
def test_asymmetric_ranks_as_the_euclidean_distance_of_projections_to_signs(
    seed: int, m: int, n_bits: int
) -> None:
    rng = np.random.default_rng(seed)
    # Small integers, so that distances tie.
    z = rng.integers(-2, 3, (1, n_bits)).astype(np.float32)
    bits = rng.normal(size=(m, n_bits))
    labels = rng.integers(0, 2, m)
    labels[0] = 1
    expected = mean_over_orders(((z - np.sign(bits)) ** 2).sum(axis=1), labels == 1)
    (ranking,) = rank_asymmetric(z, np.array([1]), pack(bits), labels)
    measured = ranking.average_precision(harmonic_numbers(m))
    assert measured[0] == pytest.approx(expected, abs=1e-9)


def average_precision_of_first(ranking: list[bool], k: int) -> float:
    """The mean precision at the relevant items among the first k, from its definition."""
    hits = [rank for rank, relevant in enumerate(ranking[:k], 1) if relevant]
    return sum(i / rank for i, rank in enumerate(hits, 1)) / len(hits) if hits else 0.0


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 3))
def test_of_the_first_k_it_is_the_mean_over_all_orders(seed: int, m: int, n_bits: int) -> None:
    rng = np.random.default_rng(seed)
    query, db = pack(rng.normal(size=(1, n_bits))), pack(rng.normal(size=(m, n_bits)))
    labels = rng.integers(0, 2, m)
    labels[0] = 1
    ranking, _ = rank_codes(query, np.array([1]), db, labels)
    distances = hamming(query, db)[0]
    orders = [
        [bool(labels[i]) for i in order]
        for order in permutations(range(m))
        if all(distances[a] <= distances[b] for a, b in pairwise(order))
    ]
    for k in range(1, m + 1):
        expected = np.mean([average_precision_of_first(order, k) for order in orders])
        measured = ranking.average_precision_in_first(k, harmonic_numbers(m))
        assert measured[0] == pytest.approx(expected, abs=1e-9)


def test_of_the_first_5000_among_large_ties_it_is_the_mean_of_shuffles() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 20_000)
    db = pack(rng.normal(size=(20_000, 3)) + 0.3 * labels[:, None])
    queries = pack(np.array([[-1.0, -1, -1], [1, 1, 1]]))
    ranking, _ = rank_codes(queries, np.array([0, 2]), db, labels)
    measured = ranking.average_precision_in_first(5000, harmonic_numbers(20_000))
    for query, label, value in zip(queries, (0, 2), measured, strict=True):
        distances = hamming(query[None], db)[0]
        drawn = []
        for _ in range(30):
            order = np.lexsort((rng.random(20_000), distances))
            relevant = labels[order[:5000]] == label
            precision = relevant.cumsum() / np.arange(1, 5001)
            drawn.append(precision[relevant].mean())
        assert value == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 30**0.5)


def test_of_the_first_k_without_a_relevant_item_it_is_zero() -> None:
    codes = pack(np.tril(np.ones((4, 4))))
    ranking, _ = rank_codes(codes[:1], np.array([1]), codes, np.array([0, 0, 0, 1]))
    harmonic = harmonic_numbers(4)
    assert ranking.average_precision_in_first(3, harmonic).tolist() == [0.0]
    assert ranking.average_precision_in_first(4, harmonic) == pytest.approx(0.25)
    none, _ = rank_codes(codes[:1], np.array([2]), codes, np.array([0, 0, 0, 1]))
    assert np.isnan(none.average_precision_in_first(3, harmonic)).all()


def test_without_ties_it_equals_scikit_learn() -> None:
    # Codes with 0, 1, 2, … bits set: no two have the same distance from the zero code.
    m = 200
    bits = np.tril(np.ones((m, m), np.float32))
    order = np.random.default_rng(0).permutation(m)
    db, query = pack(bits[order]), pack(np.zeros((1, m)))
    labels = np.random.default_rng(1).integers(0, 3, m)
    for label in range(3):
        expected = average_precision_score(labels == label, -bits[order].sum(axis=1))
        measured = average_precision(query, np.array([label]), db, labels)[0]
        assert measured == pytest.approx(expected, abs=1e-9)


def test_euclidean_without_ties_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    queries, db = rng.normal(size=(20, 8)), rng.normal(size=(500, 8))
    query_labels, labels = rng.integers(0, 3, 20), rng.integers(0, 3, 500)
    measured = average_precision_euclidean(queries, query_labels, db, labels)
    for query, label, value in zip(queries, query_labels, measured, strict=True):
        scores = -np.linalg.norm(query - db, axis=1)
        assert value == pytest.approx(average_precision_score(labels == label, scores), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_euclidean_resolves_small_differences_far_from_the_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 40)
    fine = rng.permutation(80) * 0.01
    db = np.stack([np.where(fine > 0.4, 1000.0, -1000.0), fine], axis=1)
    query = np.array([[1000.0, -0.5]])
    expected = average_precision_score(labels == 1, -np.linalg.norm(db - query, axis=1))
    measured = average_precision_euclidean(query, np.array([1]), db, labels)[0]
    assert measured == pytest.approx(expected, abs=1e-9)


def test_euclidean_ties_duplicates_in_any_order_of_the_database() -> None:
    rng = np.random.default_rng(0)
    distinct = rng.normal(5, 1, (40, 30))
    db = distinct[np.arange(4000) % 40].astype(np.float32)
    labels = rng.integers(0, 2, 4000)
    order = rng.permutation(4000)
    queries = rng.normal(5, 1, (3, 30)).astype(np.float32)
    measured = average_precision_euclidean(queries, np.ones(3, int), db, labels)
    shuffled = average_precision_euclidean(queries, np.ones(3, int), db[order], labels[order])
    np.testing.assert_allclose(shuffled, measured, rtol=1e-12)


def test_the_order_of_the_database_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    queries, db = pack(rng.normal(size=(30, 12))), pack(rng.normal(size=(5000, 12)))
    query_labels, labels = rng.integers(0, 4, 30), rng.integers(-1, 4, 5000)
    measured = average_precision(queries, query_labels, db, labels)
    for _ in range(3):
        order = rng.permutation(5000)
        shuffled = average_precision(queries, query_labels, db[order], labels[order])
        np.testing.assert_array_equal(shuffled, measured)


def test_a_large_tie_loses_no_precision() -> None:
    # All items tie: by linearity, the expectation has a closed form.
    m, r = 100_000, 12_345
    labels = np.zeros(m, np.int64)
    labels[:r] = 1
    place = np.arange(1, m + 1)
    expected = float(np.mean((1 + (place - 1) * (r - 1) / (m - 1)) / place))
    codes = np.zeros((m, 2), np.uint8)
    measured = average_precision(codes[:1], np.array([1]), codes, labels)[0]
    assert measured == pytest.approx(expected, abs=1e-9)


def test_queries_without_a_relevant_item_are_left_out() -> None:
    codes, labels = pack(np.eye(4)), np.array([0, 0, 1, -1])
    precisions = average_precision(codes, np.array([0, 1, 7, -1]), codes, labels)
    assert np.isnan(precisions).tolist() == [False, False, True, True]
    measured = mean_average_precision(codes, np.array([0, 1, 7, -1]), codes, labels)
    assert measured == pytest.approx(precisions[:2].mean())
    with pytest.raises(InvalidInput, match="none of the 4 queries has a relevant item"):
        mean_average_precision(codes, np.full(4, -1), codes, labels)
    with pytest.raises(InvalidInput, match="none of the 4 queries"):
        mean_average_precision(codes, labels, codes[:0], labels[:0])


def test_perfect_and_opposite_codes_give_the_known_extremes() -> None:
    labels = np.repeat([0, 1], 50)
    codes = pack(np.where(labels[:, None], 1.0, -1.0) * np.ones((100, 16)))
    assert mean_average_precision(codes, labels, codes, labels) == pytest.approx(1, abs=1e-12)
    worst = np.mean(np.arange(1, 51) / np.arange(51, 101))
    assert mean_average_precision(codes, 1 - labels, codes, labels) == pytest.approx(worst)


def test_shapes_that_do_not_match_are_refused() -> None:
    codes, labels = pack(np.eye(4)), np.arange(4)
    with pytest.raises(InvalidInput, match="one label per row"):
        mean_average_precision(codes, labels[:3], codes, labels)
    with pytest.raises(InvalidInput, match="queries have 1 columns and the database has 2"):
        mean_average_precision(codes, labels, np.zeros((4, 2), np.uint8), labels)
