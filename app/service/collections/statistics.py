"""Figures on how well the codes of a collection use their bits."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import Unready
from bitcodes import Words, code_size, to_codes, to_words
from index import Collection

# Largest sample for the figures on bits. It is smaller for long codes: the time grows with
# items × n_bits².
MAX_ITEMS = 100_000
MAX_ITEMS_TIMES_BITS_SQUARED = 1 << 36
# Largest sample for the buckets: sorting a million codes takes about a second.
MAX_SORTED = 1_000_000
# Rows and columns of the heat map; for longer codes a cell covers several bits.
MAX_CELLS = 64
MAX_PAIRS = 5
_BLOCK_VALUES = 1 << 22
# The pairs of the longest codes need half a gigabyte, so statistics run one at a time.
_ONE_AT_A_TIME = Lock()
_MAX_WAIT_SECONDS = 10


def statistics(collection: Collection) -> dict[str, Any]:
    """Return figures on the current codes, as `schemas.StatisticsOut` describes them.

    Raise Unready if the statistics of other collections take too long.
    """
    if not _ONE_AT_A_TIME.acquire(timeout=_MAX_WAIT_SECONDS):
        raise Unready("the statistics of other collections are being computed: try again later")
    try:
        return _statistics(collection)
    finally:
        _ONE_AT_A_TIME.release()


def _statistics(collection: Collection) -> dict[str, Any]:
    codes, n_items = collection.sample_codes(MAX_SORTED)
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

    Parameters
    ----------
    words : (n, ceil(n_bits / 64)) uint64, n > 0
    n_bits : int
    """
    n = len(words)
    both = np.zeros((n_bits, n_bits))
    step = max(1, _BLOCK_VALUES // n_bits)
    for start in range(0, n, step):
        codes = to_codes(words[start : start + step], code_size(n_bits))
        x = np.unpackbits(codes, axis=1, count=n_bits).astype(np.float32)
        both += x.T @ x  # Counts below 2^24: exact in float32.
    both /= n
    ones = both.diagonal().copy()
    deviation = np.sqrt(ones * (1 - ones))
    scale = np.outer(deviation, deviation)
    # A constant bit has no correlation; report zero.
    both -= np.outer(ones, ones)
    r = np.divide(both, scale, out=both, where=scale > 0)
    r[scale == 0] = 0
    pairs = np.abs(r[np.triu_indices(n_bits, 1)])
    return {
        "looked": n,
        "ones": ones.round(6).tolist(),
        "constant": int((deviation == 0).sum()),
        "mean_correlation": float(pairs.mean()) if len(pairs) else 0.0,
        "most_correlated": _pairs(r),
        "heat_map": _heat_map(np.abs(r)).round(4).tolist(),
    }


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


def _pairs(r: NDArray[np.float64]) -> list[dict[str, Any]]:
    first, second = np.triu_indices(len(r), 1)
    upper = r[first, second]
    most = min(MAX_PAIRS, len(upper))
    top = np.argpartition(-np.abs(upper), most - 1)[:most] if most else np.empty(0, np.int64)
    top = top[np.argsort(-np.abs(upper[top]), kind="stable")]
    return [
        {"bits": [int(first[at]), int(second[at])], "correlation": round(float(upper[at]), 6)}
        for at in top
    ]


def _heat_map(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means of |r| over cells of bits, without the correlation of a bit with itself."""
    n = len(size)
    edges = np.linspace(0, n, min(n, MAX_CELLS) + 1).astype(np.int64)
    starts, widths = edges[:-1], np.diff(edges)
    apart = size * (1 - np.eye(n))
    total = np.add.reduceat(np.add.reduceat(apart, starts, axis=0), starts, axis=1)
    pairs = np.outer(widths, widths) - np.diag(widths)
    means: NDArray[np.float64] = total / np.maximum(pairs, 1)
    return means
