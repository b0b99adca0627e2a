"""Measures of rankings with ties, from the counts at each distance.

A `Ranking` holds, for each query, how many items lie at each distance and how many of those are
relevant. Every measure here is an expectation over all orders of tied items, in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Items and relevant items at each distance, nearest first.

    Attributes
    ----------
    items, relevant : (q, g) int
        Counts; a group may be empty.
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
        """Expected average precision of each query, (q,), NaN where nothing is relevant.

        `harmonic` holds the harmonic numbers H(0) to H(n), n at least the number of items.

        A tie of n items, r of them relevant, behind N items, R of them relevant: its place j holds
        a relevant item with probability r / n, and then R + 1 + (j - 1) (r - 1) / (n - 1) relevant
        items are expected among the first N + j. Summed over j = 1..n, with D = H(N + n) - H(N),
        that is r / n · ((R + 1) D + (r - 1) / (n - 1) · (n - (N + 1) D)).
        """
        n, r, before = self.items, self.relevant, self.items_before
        D = harmonic[before + n] - harmonic[before]
        # A group without relevant items has r = 0 and adds nothing, whatever else is here.
        share = (r - 1) / np.maximum(n - 1, 1)
        inner = (self.relevant_before + 1) * D + share * (n - (before + 1) * D)
        gains = (r / np.maximum(n, 1) * inner).sum(axis=1)
        n_relevant = r.sum(axis=1)
        return np.where(n_relevant > 0, gains / np.maximum(n_relevant, 1), np.nan)

    def relevant_in_first(self, ranks: NDArray[np.integer]) -> Reals:
        """Expected number of relevant items among the first k for each k of `ranks`, (q, k).

        Within a tie the expectation grows linearly with the place.
        """
        found = np.empty((len(self.items), len(ranks)))
        start = np.zeros((len(self.items), 1))
        items = np.concatenate([start, self.items.cumsum(axis=1)], axis=1)
        relevant = np.concatenate([start, self.relevant.cumsum(axis=1)], axis=1)
        for row, at, upto in zip(found, items, relevant, strict=True):
            row[:] = np.interp(ranks, at, upto)
        return found

    def within(self, group: int) -> tuple[Counts, Counts]:
        """Items and relevant items in the groups up to and with `group`, each (q,)."""
        part = slice(0, group + 1)
        return self.items[:, part].sum(axis=1), self.relevant[:, part].sum(axis=1)


def harmonic_numbers(n: int) -> Reals:
    """H(0) to H(n)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
