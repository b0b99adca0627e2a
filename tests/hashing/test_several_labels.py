"""Items with several labels: two are similar if they share one."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitcodes import hamming
from hashing import HASHERS, InvalidInput, make_hasher
from hashing.labels import as_targets, class_sizes, is_labelled, share_a_label
from hashing.methods.itq import cca
from hashing.methods.ksh import Residual
from hashing.methods.sdh import improve_bits, ridge_regression
from hashing.parts import pairs
from hashing.parts.kernel_features import class_sums
from hashing.parts.pairs import sample_pairs
from tests.methods import each_method, needs_torch, quick

LEARN_FROM_SEVERAL = {"diffhash", "ssh", "ksh", "sdh", "siamese-1", "siamese-2"}
RNG = np.random.default_rng(0)
Y = RNG.random((40, 5)) < 0.3
Y[3] = Y[11] = False


@pytest.fixture(scope="module")
def sets(y: NDArray[Any]) -> NDArray[np.int64]:
    """Return two labels of each digit: itself, and whether it is above four."""
    return np.concatenate([np.eye(10, dtype=int)[y], np.eye(2, dtype=int)[(y > 4) * 1]], axis=1)


def test_labels_are_counted_and_compared_as_sets_of_numbers() -> None:
    as_sets = [set(np.flatnonzero(row).tolist()) for row in Y]
    expected = [[bool(a & b) for b in as_sets] for a in as_sets]
    assert share_a_label(Y, Y).tolist() == expected
    assert is_labelled(Y).tolist() == [bool(one) for one in as_sets]
    assert class_sizes(Y) == {i: sum(i in one for one in as_sets) for i in range(5)}


def test_one_label_each_means_the_same_in_both_forms() -> None:
    one = RNG.integers(-1, 4, 30)
    matrix = np.eye(5, dtype=bool)[one][:, :4]
    assert (share_a_label(one, one) == share_a_label(matrix, matrix)).all()
    assert class_sizes(one) == class_sizes(matrix)
    assert (is_labelled(one) == is_labelled(matrix)).all()


@pytest.mark.parametrize(
    "labels",
    [Y, Y.tolist(), Y.astype(np.uint8), [list(row) for row in Y.astype(int)], tuple(Y)],
    ids=["bool", "lists of bool", "uint8", "lists of int", "rows"],
)
def test_a_matrix_of_zeros_and_ones_is_read(labels: Any) -> None:
    read = as_targets(labels, len(Y))
    assert read.dtype == np.bool_
    assert (read == Y).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0, 1], [2, 0], [1, 1]]), "row 1 has 2"),
        (np.array([[0.0, 1], [1, 0], [1, 1]]), "got dtype float64"),
        ([[0, 1], [1], [1, 1]], "rows of different lengths"),
        ([[0], [1], [1]], r"got shape \(3, 1\)"),
        (np.zeros((2, 2), int), r"expected 3 labels.*got shape \(2, 2\)"),
        ([["a", "b"]] * 3, "got dtype <U1"),
    ],
)
def test_other_matrices_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        as_targets(labels, 3)


def test_pairs_are_uniform_over_all_pairs_of_their_kind() -> None:
    n = 100_000
    shared = share_a_label(Y, Y)
    for drawn, similar in zip(sample_pairs(Y, n, np.random.default_rng(0)), (1, 0), strict=True):
        expected = [
            (i, j)
            for i, j in permutations(range(len(Y)), 2)
            if Y[i].any() and Y[j].any() and shared[i, j] == similar
        ]
        found, counts = np.unique(drawn, axis=0, return_counts=True)
        assert [tuple(pair) for pair in found.tolist()] == sorted(expected)
        share = 1 / len(expected)
        assert np.all(np.abs(counts / n - share) < 5 * np.sqrt(share / n))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((9, 3), bool), "only 0 share none"),
        (np.eye(3, dtype=bool), "two labelled items"),
        (np.eye(3, dtype=bool)[[0, 0, 0]], "two classes are needed, got 1"),
    ],
)
def test_labels_without_both_kinds_of_pairs_are_refused(
    labels: NDArray[np.bool_], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        sample_pairs(labels, 5, np.random.default_rng(0))


def test_labels_that_hardly_any_pair_differs_in_are_refused_soon() -> None:
    labels = np.random.default_rng(0).random((300, 20)) < 0.1
    labels[:, 0] = True
    with pytest.raises(InvalidInput, match=r"of 200,000 pairs of .* only 0 share none; 2,000 are"):
        sample_pairs(labels, 2000, np.random.default_rng(0))
    # With two other items, 1.3 % of all pairs share no label, and they are found.
    labels[7:9] = np.eye(20, dtype=bool)[19]
    labels[9:, 19] = False
    _, dissimilar = sample_pairs(labels, 2000, np.random.default_rng(0))
    assert len(dissimilar) == 2000
    assert not share_a_label(labels[dissimilar[:, 0]], labels[dissimilar[:, 1]]).diagonal().any()


def test_many_classes_are_compared_in_small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_LABELS", 50 * Y.shape[1])
    similar, dissimilar = sample_pairs(Y, 1000, np.random.default_rng(0))
    assert len(similar) == len(dissimilar) == 1000
    shared = share_a_label(Y, Y)
    assert shared[tuple(similar.T)].all()
    assert not shared[tuple(dissimilar.T)].any()


def test_the_residual_of_ksh_behaves_like_the_matrix() -> None:
    bits = RNG.choice([-1.0, 1.0], (3, len(Y)))
    F = RNG.normal(size=(len(Y), 7))
    residual = Residual(Y, 12)
    for bit in bits:
        residual.subtract(bit)
    R = 12 * np.where(share_a_label(Y, Y), 1, -1) - bits.T @ bits
    np.testing.assert_allclose(residual.times(F[:, 0]), R @ F[:, 0], atol=1e-9)
    np.testing.assert_allclose(residual.within(F), F.T @ R @ F, atol=1e-9)


def test_a_round_of_sdh_lowers_its_objective_for_the_matrix_of_labels() -> None:
    B = RNG.choice([-1.0, 1.0], (len(Y), 6))
    np.testing.assert_allclose(class_sums(B, Y), Y.T.astype(float) @ B)
    W = ridge_regression(B, 1.0)(class_sums(B, Y).T)
    better = improve_bits(B, W, Y.astype(float) @ W.T)
    assert ((Y - better @ W) ** 2).sum() < ((Y - B @ W) ** 2).sum()


def test_the_canonical_directions_of_one_label_each_are_those_of_its_matrix(
    X: NDArray[Any], y: NDArray[Any]
) -> None:
    expected = cca(X[:300], y[:300], 8, 0.1)
    found = cca(X[:300], np.eye(10, dtype=bool)[y[:300]], 8, 0.1)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)


def test_the_loss_of_siamese_nets_is_that_of_the_shared_labels() -> None:
    torch = needs_torch()
    from hashing.nets.siamese_training import loss

    xi = np.tanh(RNG.normal(size=(12, 5)))
    sets = Y[:12]
    similar, others = [], []
    for i, j in permutations(range(12), 2):
        distance = float(np.linalg.norm(xi[i] - xi[j]))
        if (sets[i] & sets[j]).any():
            similar.append(distance**2 / 2)
        else:
            others.append(max(0.0, 1.5 - distance) ** 2 / 2)
    # A row without a label is dissimilar to itself, too; training has none.
    alone = np.count_nonzero(~sets.any(axis=1))
    expected = np.mean(similar) + 3 * (sum(others) + alone * 1.5**2 / 2) / (len(others) + alone)
    value = loss(torch.from_numpy(xi), torch.from_numpy(sets), 1.5, 3.0)
    np.testing.assert_allclose(value.item(), expected, rtol=2e-3)


@pytest.mark.parametrize("method", each_method())
def test_methods_learn_from_several_labels_or_say_that_they_do_not(
    method: str, X: NDArray[Any], sets: NDArray[np.int64]
) -> None:
    cls = HASHERS[method]
    assert cls.many_labels == (method in LEARN_FROM_SEVERAL)
    hasher: Any = make_hasher(method, n_bits=16, **quick(method))
    if cls.needs_labels and not cls.many_labels:
        with pytest.raises(InvalidInput, match=f"{method}.* needs one label per item"):
            hasher.fit(X[:300], sets[:300])
        return
    hasher.fit(X[:300], sets[:300])
    if not cls.needs_labels:
        assert hasher.fingerprint == make_hasher(method, n_bits=16).fit(X[:300]).fingerprint
        return
    distances = hamming(hasher.encode(X[300:600]), hasher.encode(X[300:600]))
    alike = share_a_label(sets[300:600] > 0, sets[300:600] > 0)
    np.fill_diagonal(alike, False)
    other = ~alike & ~np.eye(300, dtype=bool)
    assert distances[alike].mean() < distances[other].mean() - 0.5


def test_supervised_itq_learns_from_several_labels(
    X: NDArray[Any], sets: NDArray[np.int64]
) -> None:
    hasher = make_hasher("itq", n_bits=16, supervised=True).fit(X[:300], sets[:300])
    plain = make_hasher("itq", n_bits=16).fit(X[:300])
    assert hasher.fingerprint != plain.fingerprint
