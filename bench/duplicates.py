"""Near-duplicates: the self-join, against a range search of all codes against all by Faiss.

`python -m bench.duplicates` also prints other radii and lengths, without Faiss.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from app.jobs.duplicates import MAX_PAIRS
from bench.index import Codes, clustered, uniform
from bench.measuring import peak_resident_mb, resident_mb, seconds
from bitcodes import to_words
from bitcodes.near_groups import Groups, near_groups

RADIUS = 4
# Faiss would take half an hour for all of them, so its time for these is multiplied.
FAISS_QUERIES = 1000


def find(codes: Codes, radius: int) -> Groups:
    """Return the groups of codes, whose ids are their rows."""
    return near_groups(to_words(codes), radius, MAX_PAIRS, lambda rows: rows)


def measure() -> dict[str, float]:
    """Compare on a million clustered 64-bit codes.

    Returns
    -------
    dict of str to float
        Among others `ratio`, the time of Faiss, extrapolated from 1,000 queries, over ours; and
        `peak_mb`, the memory that the search takes in addition to the codes.

    Raises
    ------
    AssertionError
        The pairs are not those that Faiss finds.
    """
    codes, _ = clustered(np.random.default_rng(0), 10**6)
    flat: Any = faiss.IndexBinaryFlat(64)
    flat.add(codes)
    rows = np.random.default_rng(1).choice(len(codes), FAISS_QUERIES, replace=False)
    found: list[Any] = []
    # Faiss finds what is nearer than the radius that it is given.
    part = seconds(lambda: found.append(flat.range_search(codes[rows], RADIUS + 1)))
    faiss_seconds = part * len(codes) / FAISS_QUERIES
    forget_peak()
    before = resident_mb()
    start = time.perf_counter()
    groups = find(codes, RADIUS)
    own_seconds = time.perf_counter() - start
    peak = peak_resident_mb() - before
    _check(groups, rows, np.diff(found[0][0].astype(np.int64)) - 1, len(codes))
    return {
        "ratio": faiss_seconds / own_seconds,
        "seconds": own_seconds,
        "faiss_seconds": faiss_seconds,
        "pairs": len(groups.pairs),
        "groups": len(groups.sizes),
        "peak_mb": peak,
    }


def _check(groups: Groups, rows: NDArray[np.int64], expected: NDArray[np.int64], n: int) -> None:
    """Raise AssertionError unless each row has as many pairs as expected."""
    if groups.truncated:
        raise AssertionError(f"expected at most {MAX_PAIRS:,} pairs, got more")
    counts = np.bincount(groups.rows[groups.pairs].ravel(), minlength=n)[rows]
    if (counts != expected).any():
        raise AssertionError(f"expected {expected.sum()} pairs of the rows, got {counts.sum()}")


def forget_peak() -> None:
    """Let `peak_resident_mb` count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Print what takes too long for `python -m bench`."""
    print(measure(), flush=True)
    rng = np.random.default_rng(0)
    for make, n_bits, radius in (
        (uniform, 64, 4),
        (clustered, 64, 8),
        (clustered, 256, 31),
        (uniform, 256, 31),
    ):
        codes = make(rng, 10**6, n_bits)[0]
        forget_peak()
        before, start = resident_mb(), time.perf_counter()
        groups = find(codes, radius)
        took = time.perf_counter() - start
        print(
            f"{make.__name__}, {n_bits} bits, radius {radius}: {took:.1f} s, {len(groups.pairs):,} "
            f"pairs{' (truncated)' if groups.truncated else ''}, {len(groups.sizes):,} groups, "
            f"{peak_resident_mb() - before:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
