"""Exact search, against a full scan by Faiss.

`python -m bench.index` prints the growth from 1 to 16 million codes and, given a dataset (an .npz
with `descriptors` and `labels`), the comparison on trained codes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from bench.measuring import in_turn
from bitcodes import to_words
from hashing import make_hasher
from index.memory.batch import Batch
from index.memory.ids import pack
from index.memory.rows import Rows
from index.search.exact import search

K = 10
QUERIES = 1000
Codes = NDArray[np.uint8]


def clustered(
    rng: np.random.Generator, n: int, n_bits: int = 64, centres: int = 20_000, flip: float = 0.05
) -> tuple[Codes, Codes]:
    """Return n codes around random centres, and 1,000 queries drawn like them.

    Each bit of a centre is flipped with probability `flip`.
    """
    centre_bits = rng.integers(0, 2, (centres, n_bits), np.uint8)

    def draw(n: int) -> Codes:
        bits = centre_bits[rng.integers(0, centres, n)]
        return np.packbits(bits ^ (rng.random(bits.shape, np.float32) < flip), axis=1)

    return np.concatenate([draw(min(n, 10**5)) for _ in range(0, n, 10**5)])[:n], draw(QUERIES)


def uniform(rng: np.random.Generator, n: int, n_bits: int = 64) -> tuple[Codes, Codes]:
    """Return n uniformly random codes, and 1,000 such queries."""
    size = n_bits // 8
    codes = rng.integers(0, 256, (n, size), np.uint8)
    return codes, rng.integers(0, 256, (QUERIES, size), np.uint8)


def compare(codes: Codes, queries: Codes, k: int = K, rounds: int = 3) -> dict[str, float]:
    """Compare the speed with that of Faiss's IndexBinaryFlat.

    Returns
    -------
    dict of str to float
        Among others `ratio`, our queries per second over Faiss's, and `looked`, the codes that a
        search looks at in the mean.

    Raises
    ------
    AssertionError
        The distances found are not those of Faiss.
    """
    n_bits = 8 * codes.shape[1]
    rows = Rows(n_bits, _batch(codes))
    view = rows.view()
    start = time.perf_counter()
    view.segment.prepare()
    build = time.perf_counter() - start
    flat: Any = faiss.IndexBinaryFlat(n_bits)
    flat.add(codes)
    words = to_words(queries)
    distances, _ = flat.search(queries, k)
    answers = search(view, words, k, None)
    for answer, expected in zip(answers, distances, strict=True):
        if not answer.certificate.exact or (answer.distances != expected).any():
            raise AssertionError(f"expected distances {expected}, got {answer.distances}")
    times = in_turn(
        [lambda _: flat.search(queries, k), lambda _: search(view, words, k, None)],
        rounds,
        warm_up=0,
    )
    faiss_seconds, our_seconds = times.min(axis=0).tolist()
    return {
        "ratio": faiss_seconds / our_seconds,
        "ms_per_query": 1e3 * our_seconds / len(queries),
        "faiss_ms_per_query": 1e3 * faiss_seconds / len(queries),
        "looked": float(np.mean([answer.certificate.looked or 0 for answer in answers])),
        "bytes_per_item": view.segment.nbytes / len(codes),
        "build_seconds": build,
    }


def _batch(codes: Codes) -> Batch:
    """The codes as items without labels."""
    data, lengths = pack([f"{i:08d}" for i in range(len(codes))])
    no_labels = np.full(len(codes), -1, np.int64)
    return Batch(data, lengths, to_words(codes), no_labels, np.arange(len(codes)))


def clustered_codes() -> dict[str, float]:
    """Compare on a million clustered 64-bit codes."""
    return compare(*clustered(np.random.default_rng(0), 10**6))


def uniform_codes() -> dict[str, float]:
    """Compare on a million uniform 64-bit codes."""
    return compare(*uniform(np.random.default_rng(0), 10**6))


def growth(millions: tuple[int, ...] = (1, 4, 16)) -> Iterator[dict[str, float]]:
    """Compare on more and more clustered codes: in 20,000 clusters, and in clusters of 50."""
    for million in millions:
        for centres in (20_000, million * 20_000):
            codes, queries = clustered(np.random.default_rng(0), million * 10**6, centres=centres)
            figures = compare(codes, queries, rounds=1)
            yield {"millions": million, "centres": centres} | figures


def trained(
    descriptors: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Compare on 48-bit codes of three methods, and of ten noisy copies of the descriptors."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(descriptors))
    queries, base = descriptors[order[:QUERIES]], descriptors[order[QUERIES:]]
    labelled = rng.choice(len(base), 2000, replace=False)
    y = np.full(len(base), -1)
    y[labelled] = labels[order[QUERIES:]][labelled]
    noise = 0.1 * base.std()
    figures = {}
    for method in ("lsh", "ksh", "net-2"):
        hasher = make_hasher(method, n_bits=48, random_state=0)
        if method == "ksh":
            hasher.fit(base[labelled], y[labelled])
        else:
            hasher.fit(base, y)
        codes, query_codes = hasher.encode(base), hasher.encode(queries)
        copies = [
            hasher.encode(base + noise * rng.standard_normal(base.shape, np.float32))
            for _ in range(10)
        ]
        distinct = len(np.unique(codes, axis=0))
        figures[f"{method} x1"] = compare(codes, query_codes) | {"distinct": distinct}
        figures[f"{method} x10"] = compare(np.concatenate(copies), query_codes)
    return figures


def main() -> None:
    """Print what takes too long for `python -m bench`."""
    for row in growth():
        print(row, flush=True)
    for path in sys.argv[1:]:
        with np.load(path, allow_pickle=False) as data:
            X, y = data["descriptors"].astype(np.float32), data["labels"].astype(np.int64)
        for name, figures in trained(X, y).items():
            print(name, figures, flush=True)


if __name__ == "__main__":
    main()
