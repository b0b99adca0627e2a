"""Figures on how well the codes of a collection use their bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Words, code_size, to_codes, to_words
from index.backend import Collection

# Largest sample for the figures on bits. It is smaller for codes of more than 400 bits: the time
# grows with items × n_bits².
MAX_ITEMS = 100_000
MAX_ITEMS_TIMES_BITS_SQUARED = 1 << 34
# Largest sample for the buckets, in codes and in bytes: sorting a million codes takes a second.
MAX_SORTED = 1_000_000
MAX_SORTED_BYTES = 1 << 24
# Rows and columns of the heat map; for longer codes a cell covers several bits.
MAX_CELLS = 64
MAX_PAIRS = 5
# Values of the blocks that codes are unpacked to and pairs of bits are compared in.
_UNPACKED = 1 << 20
_COMPARED = 1 << 18


def statistics(collection: Collection) -> dict[str, Any]:
    """Return figures on the current codes, as `schemas.StatisticsOut` describes them."""
    n_sorted = min(MAX_SORTED, MAX_SORTED_BYTES // code_size(collection.n_bits))
    codes, n_items = collection.sample_codes(n_sorted)
    words = to_words(codes)
    # The first part of a random sample is a smaller random sample.
    n_looked = min(MAX_ITEMS, MAX_ITEMS_TIMES_BITS_SQUARED // collection.n_bits**2)
    return {
        "items": n_items,
        "n_bits": collection.n_bits,
        "bits": bits(words[:n_looked], collection.n_bits) if n_items else None,
        "buckets": buckets(words) if n_items else None,
    }


def bits(words: Words, n_bits: int) -> dict[str, Any]:
    """Return how often each bit is one, and how strongly bits correlate.

    Each bit is compared with those after it, for some bits at a time: the matrix of all pairs would
    take half a gigabyte for the longest codes.

    Parameters
    ----------
    words : (n, ceil(n_bits / 64)) uint64, n > 0
    n_bits : int
    """
    columns = _columns(words, n_bits)
    ones = np.bitwise_count(columns).sum(axis=0, dtype=np.int64) / len(words)
    deviation = np.sqrt(ones * (1 - ones))
    cells = _Cells(n_bits)
    total, top = 0.0, []
    step = max(1, _COMPARED // n_bits)
    for first in range(0, n_bits, step):
        block = slice(first, first + step)
        r = _count_together(columns[:, block], columns[:, first:]) / len(words)
        r -= np.outer(ones[block], ones[first:])
        scale = np.outer(deviation[block], deviation[first:])
        # A constant bit has no correlation; report zero.
        np.divide(r, scale, out=r, where=scale > 0)
        r[scale == 0] = 0
        pairs = np.triu_indices(len(r), 1, r.shape[1])
        total += float(np.abs(r[pairs]).sum())
        top += _largest(r[pairs], *pairs, first)
        cells.add(np.abs(np.triu(r, 1)), first)
    top.sort(key=lambda pair: -abs(pair["correlation"]))
    n_pairs = n_bits * (n_bits - 1) // 2
    return {
        "looked": len(words),
        "ones": ones.round(6).tolist(),
        "constant": int((deviation == 0).sum()),
        "mean_correlation": total / n_pairs if n_pairs else 0.0,
        "most_correlated": top[:MAX_PAIRS],
        "heat_map": cells.means().round(4).tolist(),
    }


def _columns(words: Words, n_bits: int) -> Words:
    """Return codes, (n, words), by bit: column i has bit i of all codes, (ceil(n / 64), n_bits)."""
    parts = []
    step = max(1, _UNPACKED // n_bits // 64) * 64
    for start in range(0, len(words), step):
        codes = to_codes(words[start : start + step], code_size(n_bits))
        x = np.unpackbits(codes, axis=1, count=n_bits)
        x = np.pad(x, ((0, -len(x) % 64), (0, 0)))
        packed = np.packbits(x, axis=0).reshape(-1, 8, n_bits).swapaxes(1, 2)
        parts.append(np.ascontiguousarray(packed).view(np.uint64)[..., 0])
    return np.concatenate(parts)


def _count_together(a: Words, b: Words) -> NDArray[np.uint32]:
    """Return in how many items each column of a and each of b are both one."""
    count = np.zeros((a.shape[1], b.shape[1]), np.uint32)
    for some, others in zip(a, b, strict=True):
        count += np.bitwise_count(some[:, None] & others)
    return count


def buckets(words: Words) -> dict[str, Any]:
    """Return how many items share a code.

    Parameters
    ----------
    words : (n, w) uint64, n > 0
    """
    whole = np.ascontiguousarray(words).view(np.dtype((np.void, 8 * words.shape[1]))).ravel()
    sizes = np.unique(words[:, 0] if words.shape[1] == 1 else whole, return_counts=True)[1]
    # Group the sizes 1, 2, 3 to 4, 5 to 8 and so on.
    group = np.ceil(np.log2(sizes)).astype(np.int64)
    codes, items = np.bincount(group), np.bincount(group, weights=sizes)
    return {
        "looked": len(words),
        "codes": len(sizes),
        "largest": int(sizes.max()),
        "sizes": [
            {"least": (1 << g) // 2 + 1, "most": 1 << g, "codes": c, "items": int(i)}
            for g, (c, i) in enumerate(zip(codes.tolist(), items.tolist(), strict=True))
        ],
    }


def _largest(
    r: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64], first: int
) -> list[dict[str, Any]]:
    """Return the largest correlations, of the bits `first` + rows and `first` + columns."""
    most = min(MAX_PAIRS, len(r))
    top = np.argpartition(-np.abs(r), most - 1)[:most] if most else np.empty(0, np.int64)
    top = top[np.argsort(-np.abs(r[top]), kind="stable")]
    return [
        {
            "bits": [first + int(rows[at]), first + int(columns[at])],
            "correlation": round(float(r[at]), 6),
        }
        for at in top
    ]


class _Cells:
    """Means over cells of bits, without the pairs of a bit with itself."""

    def __init__(self, n_bits: int) -> None:
        n = min(n_bits, MAX_CELLS)
        edges = np.linspace(0, n_bits, n + 1).astype(np.int64)
        self._starts, self._widths = edges[:-1], np.diff(edges)
        self._cell_of = np.arange(n).repeat(self._widths)
        # Sums over the bits of a cell, with each bit after them.
        self._sums = np.zeros((n, n_bits))

    def add(self, upper: NDArray[np.float64], first: int) -> None:
        """Add the values of bits, from `first` on, with those after them; the others are zero."""
        cells, starts = np.unique(self._cell_of[first : first + len(upper)], return_index=True)
        self._sums[cells, first:] += np.add.reduceat(upper, starts, axis=0)

    def means(self) -> NDArray[np.float64]:
        """Return the means, (cells, cells)."""
        total = np.add.reduceat(self._sums, self._starts, axis=1)
        pairs = np.outer(self._widths, self._widths) - np.diag(self._widths)
        means: NDArray[np.float64] = (total + total.T) / np.maximum(pairs, 1)
        return means
