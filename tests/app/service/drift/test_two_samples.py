"""The tests for drift keep their level, and see what has changed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.service.drift.two_samples import differences, permuted
from bitcodes import Words, pack, to_words

N_BITS = 24
HYPERPLANES = np.random.default_rng(9).normal(0, 1, (8, N_BITS))


def codes(n: int, rng: np.random.Generator, shift: float = 0, noise: float = 0) -> Words:
    """Codes of correlated bits."""
    X = rng.normal(0, 1, (n, 8)) + shift * np.eye(8)[0]
    return to_words(pack(X @ HYPERPLANES + noise * rng.normal(0, 1, (n, N_BITS))))


def found(
    new: Words, rng: np.random.Generator, n_bits: int = N_BITS
) -> dict[str, tuple[float, float, float]]:
    base, held = codes(300, rng), codes(300, rng)
    return {
        one.what: (one.p_value, one.before, one.after)
        for one in differences(base, held, new, n_bits, 0.01, seed=0)
    }


def test_p_values_are_exact_where_all_assignments_can_be_counted() -> None:
    old, new = np.array([[0.0], [1], [2], [3]], np.float32), np.array([[4.0], [5]], np.float32)
    rng = np.random.default_rng(0)
    # Of the 15 pairs, {4, 5} and {0, 1} are the farthest from the mean.
    assert permuted(old, new, 1.0, rng) == pytest.approx(2 / 15, abs=0.03)


def test_the_level_is_kept() -> None:
    rng = np.random.default_rng(0)
    p_values: dict[str, list[float]] = {"balance": [], "correlation": [], "nearest": []}
    for trial in range(60):
        base, held, new = codes(60, rng), codes(60, rng), codes(40, rng)
        for one in differences(base, held, new, N_BITS, 0.05, seed=trial):
            p_values[one.what].append(one.p_value)
    for what, values in p_values.items():
        # Three, apart from chance: the 0.999 quantile of the binomial is 9.
        assert np.sum(np.array(values) <= 0.05) <= 9, what


def test_what_has_changed_is_seen_and_measured() -> None:
    rng = np.random.default_rng(1)
    same = found(codes(300, rng), rng)
    assert min(p for p, _, _ in same.values()) > 0.01
    shifted = found(codes(300, rng, shift=0.7), rng)
    assert shifted["balance"][0] <= 0.01
    assert abs(shifted["balance"][1] - shifted["balance"][2]) > 0.1
    noisy = found(codes(300, rng, noise=2), rng)
    for what in ("correlation", "nearest"):
        assert noisy[what][0] <= 0.01
    assert abs(noisy["correlation"][1]) > abs(noisy["correlation"][2]) + 0.2
    assert noisy["nearest"][2] > noisy["nearest"][1] + 0.5


def constant(n: int, n_bits: int) -> NDArray[np.uint64]:
    return to_words(pack(np.ones((n, n_bits))))


@pytest.mark.parametrize("n_bits", [1, 24, 700])
def test_constant_codes_do_not_differ(n_bits: int) -> None:
    base, held, new = (constant(n, n_bits) for n in (50, 50, 40))
    assert [one.p_value for one in differences(base, held, new, n_bits, 0.01, 0)] == [1.0] * (
        2 if n_bits == 1 else 3
    )


def test_bits_of_long_codes_are_named_by_their_place() -> None:
    rng = np.random.default_rng(2)
    base, held, new = (rng.normal(0, 1, (80, 700)) for _ in range(3))
    new[:, 100:] = 1
    words = [to_words(pack(z)) for z in (base, held, new)]
    balance, *_ = differences(words[0], words[1], words[2], 700, 0.01, 0)
    (bit,) = balance.bits
    assert bit >= 100
    assert balance.after == 1
    assert balance.before == pytest.approx(0.5, abs=0.2)
