"""How well the codes of a collection use their bits, and how full its buckets are."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.http.problems import Unready
from bitcodes import Words, code_size, to_codes, to_words
from index import Collection

# Items looked at for the bits: so many, and fewer for long codes, whose pairs take their time.
MOST_ITEMS = 100_000
MOST_WORK = 1 << 36
# Items looked at for the buckets: sorting so many takes about a second.
MOST_SORTED = 1_000_000
# Cells each way of the heat map; longer codes have several bits in one.
MOST_CELLS = 64
MOST_PAIRS = 5
_BLOCK_VALUES = 1 << 22
# Of the longest codes the pairs take half a gigabyte: one collection at a time.
_ONE_AT_A_TIME = Lock()
_PATIENCE = 10


def statistics(collection: Collection) -> dict[str, Any]:
    """Figures of the codes that are there now, as `schemas.StatisticsOut` describes them.

    Unready where those of others have been waited for too long.
    """
    if not _ONE_AT_A_TIME.acquire(timeout=_PATIENCE):
        raise Unready("the statistics of other collections are being computed")
    try:
        return _statistics(collection)
    finally:
        _ONE_AT_A_TIME.release()


def _statistics(collection: Collection) -> dict[str, Any]:
    codes, n_items = collection.sample_codes(MOST_SORTED)
    words, work = to_words(codes), MOST_WORK // collection.n_bits**2
    return {
        "items": n_items,
        "n_bits": collection.n_bits,
        "bits": bits(words[: min(MOST_ITEMS, work)], collection.n_bits) if n_items else None,
        "buckets": buckets(words) if n_items else None,
    }


def bits(words: Words, n_bits: int) -> dict[str, Any]:
    """How often each bit is one, and how much bits say the same.

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
    # Of a bit that is always the same there is no correlation; it counts as none.
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
    """How many items share a code.

    Parameters
    ----------
    words : (n, w) uint64, n > 0
    """
    whole = np.ascontiguousarray(words).view(np.dtype((np.void, 8 * words.shape[1]))).ravel()
    sizes = np.unique(words[:, 0] if words.shape[1] == 1 else whole, return_counts=True)[1]
    # Sizes 1, 2, 3 to 4, 5 to 8 and so on: the power of two above.
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
    most = min(MOST_PAIRS, len(upper))
    top = np.argpartition(-np.abs(upper), most - 1)[:most] if most else np.empty(0, np.int64)
    top = top[np.argsort(-np.abs(upper[top]), kind="stable")]
    return [
        {"bits": [int(first[at]), int(second[at])], "correlation": round(float(upper[at]), 6)}
        for at in top
    ]


def _heat_map(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of |r| over cells of bits, without that of a bit with itself."""
    n = len(size)
    edges = np.linspace(0, n, min(n, MOST_CELLS) + 1).astype(np.int64)
    starts, widths = edges[:-1], np.diff(edges)
    apart = size * (1 - np.eye(n))
    total = np.add.reduceat(np.add.reduceat(apart, starts, axis=0), starts, axis=1)
    pairs = np.outer(widths, widths) - np.diag(widths)
    means: NDArray[np.float64] = total / np.maximum(pairs, 1)
    return means
