"""Rankings with ties, as counts of items at each distance, and their measures.

Every measure is the expectation over all orders of tied items, in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class TiedRankings:
    """For each query, how many items lie at each distance, and how many of them are relevant.

    Items at the same distance form a group. Groups are sorted by distance, nearest first.

    Attributes
    ----------
    items, relevant : (q, g) int
        Counts for q queries and g groups; a group may be empty.
    """

    items: Counts
    relevant: Counts

    @cached_property
    def items_before(self) -> Counts:
        """Items strictly nearer than each group, (q, g)."""
        return self.items.cumsum(axis=1) - self.items

    @cached_property
    def relevant_before(self) -> Counts:
        """Relevant items strictly nearer than each group, (q, g)."""
        return self.relevant.cumsum(axis=1) - self.relevant

    def average_precision(self, harmonic: Reals) -> Reals:
        """Return the expected average precision of each query, in 0 to 1.

        Take a group of n items, r of them relevant, behind N items, R of them relevant. Its
        place j holds a relevant item with probability r / n; if it does, R + 1 +
        (j - 1) (r - 1) / (n - 1) relevant items are expected among the first N + j. Summed over
        j = 1..n, with D = H(N + n) - H(N), this gives
        r / n · ((R + 1) D + (r - 1) / (n - 1) · (n - (N + 1) D)).

        Parameters
        ----------
        harmonic : (m,) float64
            The harmonic numbers H(0) to at least H(number of items).

        Returns
        -------
        (q,) float64
            NaN for a query without a relevant item.

        References
        ----------
        F. McSherry, M. Najork, "Computing Information Retrieval Performance Measures Efficiently
        in the Presence of Tied Scores", ECIR 2008, section 2. Deviation: the sum over the places
        of a tie is written with harmonic numbers.
        """
        gains = _gains(
            self.items, self.relevant, self.items_before, self.relevant_before, harmonic
        ).sum(axis=1)
        n_relevant = self.relevant.sum(axis=1)
        return np.where(n_relevant > 0, gains / np.maximum(n_relevant, 1), np.nan)

    def average_precision_in_first(self, k: int, harmonic: Reals) -> Reals:
        """Return the expected average precision of the first k items, in 0 to 1.

        It is the mean of the precisions at the relevant items among the first k, as papers with
        mAP@k have it: relevant items further back do not count. The group that k cuts has n items,
        r of them relevant, and m of its places are among the first k. They hold t relevant items
        with the probability of the hypergeometric distribution; given t, every order of them is
        equally likely, as in a group of m items with t relevant ones.

        Returns
        -------
        (q,) float64
            0 for a query without a relevant item among the first k, NaN for one without any.
        """
        ends = self.items_before + self.items
        gains = _gains(self.items, self.relevant, self.items_before, self.relevant_before, harmonic)
        whole = ends <= k
        sums = np.where(whole, gains, 0).sum(axis=1)
        counts = np.where(whole, self.relevant, 0).sum(axis=1)
        values = sums / np.maximum(counts, 1)
        cut = (self.items_before < k) & ~whole & (self.relevant > 0)
        for i, g in np.argwhere(cut):
            before, n, r = self.items_before[i, g], self.items[i, g], self.relevant[i, g]
            m = k - before
            t = np.arange(max(0, m - (n - r)), min(r, m) + 1)
            inside = _gains(m, t, before, counts[i], harmonic)
            given = (sums[i] + inside) / np.maximum(counts[i] + t, 1)
            values[i] = _hypergeometric(n, r, m, t) @ given
        return np.where(self.relevant.sum(axis=1) > 0, values, np.nan)

    def relevant_in_first(self, ranks: NDArray[np.integer]) -> Reals:
        """Return the expected number of relevant items among the first k, for each k in `ranks`.

        Within a group the expectation grows linearly with the place.

        Returns
        -------
        (q, len(ranks)) float64
        """
        expected = np.empty((len(self.items), len(ranks)))
        start = np.zeros((len(self.items), 1))
        items = np.concatenate([start, self.items.cumsum(axis=1)], axis=1)
        relevant = np.concatenate([start, self.relevant.cumsum(axis=1)], axis=1)
        for row, n_items, n_relevant in zip(expected, items, relevant, strict=True):
            row[:] = np.interp(ranks, n_items, n_relevant)
        return expected

    def within(self, group: int) -> tuple[Counts, Counts]:
        """Count the items, and the relevant items, in groups 0 to `group`: each (q,)."""
        groups = slice(0, group + 1)
        return self.items[:, groups].sum(axis=1), self.relevant[:, groups].sum(axis=1)


def _gains(
    n: Counts | int, r: Counts, before: Counts | int, relevant_before: Counts, harmonic: Reals
) -> Reals:
    """Return the expected sums of the precisions at the relevant items of groups."""
    D = harmonic[before + n] - harmonic[before]
    # A group without relevant items has r = 0 and adds nothing, whatever the other factors.
    slope = (r - 1) / np.maximum(n - 1, 1)
    inner = (relevant_before + 1) * D + slope * (n - (before + 1) * D)
    return np.asarray(r / np.maximum(n, 1) * inner)


def _hypergeometric(n: int, r: int, m: int, t: Counts) -> Reals:
    """Return the probabilities of t relevant items among m places of n, r of them relevant."""
    from scipy.special import betaln

    def log_choose(a: int, b: Counts) -> Reals:
        return np.asarray(-np.log1p(a) - betaln(a - b + 1, b + 1))

    logs = log_choose(r, t) + log_choose(n - r, m - t) - log_choose(n, np.asarray(m))
    return np.asarray(np.exp(logs))


def harmonic_numbers(n: int) -> Reals:
    """Return H(0) to H(n)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
