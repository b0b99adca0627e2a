"""The self-join of codes, against comparing all with all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bitcodes import Codes, Words, hamming, join_plan, near_pairs, to_words
from bitcodes.components import Components
from bitcodes.join_plan import Part, cut, part, varying_bits
from bitcodes.near_groups import Groups, near_groups

PLENTY = 10**7


def in_order(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows


def collections() -> Iterator[tuple[int, Codes, int]]:
    """Yield length, codes and radius of 20 random collections, half of them clustered."""
    rng = np.random.default_rng(20)
    for number, n_bits in enumerate(2 * (8, 16, 31, 48, 64, 65, 128, 200, 256, 512)):
        n = int(rng.integers(100, 300))
        radius = int(rng.integers(0, min(40, n_bits) + 1))
        bits = rng.integers(0, 2, (n, n_bits), np.uint8)
        if number % 2:
            centres = rng.integers(0, 2, (n // 20, n_bits), np.uint8)
            bits = centres[rng.integers(0, len(centres), n)]
            bits = bits ^ (rng.random(bits.shape) < rng.choice([0.01, 0.05, 0.1]))
        yield n_bits, np.packbits(bits, axis=1), radius


def expected(codes: Codes, radius: int) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Return all pairs with their distances, and the sizes of the groups, largest first."""
    distances = hamming(codes, codes)
    a, b = np.nonzero(np.triu(distances <= radius, 1))
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(codes), len(codes)))
    sizes = np.bincount(connected_components(graph)[1])
    return (
        list(zip(a.tolist(), b.tolist(), distances[a, b].tolist(), strict=True)),
        sorted(sizes[sizes > 1].tolist(), reverse=True),
    )


def pairs_of(groups: Groups) -> list[tuple[int, int, int]]:
    rows = groups.rows[groups.pairs]
    low, high = rows.min(axis=1).tolist(), rows.max(axis=1).tolist()
    return sorted(zip(low, high, groups.distances.tolist(), strict=True))


def cut_into(m: int) -> Any:
    """Return a plan of m parts, where that is possible, whatever they cost."""

    def plan(words: Words, radius: int) -> list[Part]:
        places = varying_bits(words)
        cuts = cut(len(places), len(words), radius, min(m, radius + 1))
        if any(len(bits) <= budget for bits, budget in cuts):
            return [join_plan.everything(words.shape[1])]
        return [part(places[bits], words.shape[1], budget) for bits, budget in cuts]

    return plan


@pytest.mark.parametrize(
    ("m", "budget", "long_run"),
    [(None, 0, 4), (2, 1, 4), (3, 2, 1000), (12, 1, 4), (41, 0, 1000)],
)
def test_all_pairs_and_groups_are_found(
    m: int | None, budget: int, long_run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_pairs, "_LONG_RUN", long_run)
    monkeypatch.setattr(near_pairs, "_SQUARE", (32, 80))
    if m is not None:
        monkeypatch.setattr(near_pairs, "plan", cut_into(m))
        monkeypatch.setattr(join_plan, "MAX_WIDTH", 9)
    for n_bits, codes, radius in collections():
        if m is not None:
            radius = min(radius, (budget + 1) * m - 1)
        found = near_groups(to_words(codes), radius, PLENTY, in_order)
        pairs, sizes = expected(codes, radius)
        assert pairs_of(found) == pairs, (n_bits, radius)
        assert found.sizes.tolist() == sizes
        assert not found.truncated


def test_the_plan_of_many_codes_finds_what_all_against_all_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(join_plan, "_FEW_CODES", 1000)
    monkeypatch.setattr(join_plan, "_SAMPLED", (128, 512))
    rng = np.random.default_rng(3)
    centres = rng.integers(0, 256, (150, 8), np.uint8)
    noise = np.packbits(rng.random((1500, 64)) < 0.04, axis=1)
    codes = centres[rng.integers(0, 150, 1500)] ^ noise
    words = to_words(codes)
    assert len(join_plan.plan(np.unique(words, axis=0), 4)) > 1
    pairs, sizes = expected(codes, 4)
    found = near_groups(words, 4, PLENTY, in_order)
    assert pairs_of(found) == pairs
    assert found.sizes.tolist() == sizes


@pytest.mark.parametrize("m", [1, 3])
def test_groups_are_complete_when_pairs_are_left_out(
    m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_pairs, "_LONG_RUN", 4)
    monkeypatch.setattr(near_pairs, "_SQUARE", (16, 40))
    monkeypatch.setattr(near_pairs, "plan", cut_into(m))
    monkeypatch.setattr(join_plan, "MAX_WIDTH", 9)
    for n_bits, codes, radius in collections():
        if n_bits > 65:
            continue
        radius = min(radius, 2 * m)
        pairs, sizes = expected(codes, radius)
        for limit in {0, len(pairs) // 3, max(0, len(pairs) - 1), len(pairs)}:
            found = near_groups(to_words(codes), radius, limit, in_order)
            assert found.truncated == (limit < len(pairs)), n_bits
            assert len(found.pairs) == min(limit, len(pairs))
            assert set(pairs_of(found)) <= set(pairs)
            assert found.sizes.tolist() == sizes


def test_the_order_is_that_of_the_ids_and_does_not_depend_on_the_rows() -> None:
    rng = np.random.default_rng(5)
    codes = np.packbits(rng.integers(0, 2, (300, 12), np.uint8), axis=1)

    def found_in(order: NDArray[np.int64], limit: int) -> list[NDArray[Any]]:
        """Return what is found where `order` has the id of each row."""

        def by_id(rows: NDArray[np.int64]) -> NDArray[np.int64]:
            return rows[np.argsort(order[rows])]

        found = near_groups(to_words(codes[order]), 1, limit, by_id)
        return [order[found.rows], found.sizes, found.pairs, found.distances]

    for limit in (50, PLENTY):
        first, second = (
            found_in(np.random.default_rng(seed).permutation(300), limit) for seed in range(2)
        )
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a, b)
    ids, sizes, pairs, _ = first
    firsts = [int(group[0]) for group in np.split(ids, np.cumsum(sizes)[:-1])]
    assert all((np.diff(group) > 0).all() for group in np.split(ids, np.cumsum(sizes)[:-1]))
    keys = list(zip((-sizes).tolist(), firsts, strict=True))
    assert keys == sorted(keys)
    assert pairs.tolist() == sorted(pairs.tolist())
    assert (pairs[:, 0] < pairs[:, 1]).all()


@pytest.mark.parametrize(
    "codes",
    [np.zeros((0, 1), np.uint64), np.zeros((1, 1), np.uint64), np.array([[1], [2]], np.uint64)],
    ids=["none", "one", "far apart"],
)
def test_without_pairs_there_is_no_group(codes: Words) -> None:
    found = near_groups(codes, 0, 10, in_order)
    assert len(found.rows) == len(found.sizes) == len(found.pairs) == len(found.distances) == 0


def test_equal_codes_need_no_memory_for_all_their_pairs() -> None:
    found = near_groups(np.zeros((200_000, 1), np.uint64), 3, 1000, in_order)
    assert found.truncated
    assert found.sizes.tolist() == [200_000]
    assert len(found.pairs) == 1000


def test_codes_that_are_all_near_one_another_are_not_all_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = np.arange(1 << 13, dtype=np.uint64)[:, None]  # 33 million pairs within 13 bits.
    shares: list[float] = []
    n_compared = 0
    compare_square = near_pairs._PartJoin._compare_square

    def counted(self: Any, i: int, i_end: int, j: int, j_end: int, *, same: bool) -> None:
        nonlocal n_compared
        n_compared += (i_end - i) * (j_end - j)
        compare_square(self, i, i_end, j, j_end, same=same)

    monkeypatch.setattr(near_pairs._PartJoin, "_compare_square", counted)
    found = near_groups(words, 13, 1000, in_order, shares.append)
    assert found.truncated
    assert found.sizes.tolist() == [1 << 13]
    assert len(found.pairs) == 1000
    assert n_compared < 2_000_000
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_what_the_report_raises_ends_the_join() -> None:
    def stop(share: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        near_groups(np.arange(100, dtype=np.uint64)[:, None], 2, 1000, in_order, stop)


def test_components_of_paths_and_stars() -> None:
    rng = np.random.default_rng(1)
    order = rng.permutation(1000)
    path = Components(1000)
    path.join(order[:-1], order[1:])
    assert (path.root == 0).all()
    stars = Components(1000)
    stars.join(np.arange(10, 1000), np.arange(10, 1000) % 10)
    assert (stars.root == np.arange(1000) % 10).all()
