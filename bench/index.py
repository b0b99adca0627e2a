"""Exact search against a full pass.

`python -m bench.index` prints the growth from 1 to 16 million codes, and with a dataset, an .npz
with `descriptors` and `labels`, the comparison on trained codes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

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
    """Codes around random centres, each bit flipped with a probability; and queries like them."""
    middle = rng.integers(0, 2, (centres, n_bits), np.uint8)

    def draw(n: int) -> Codes:
        bits = middle[rng.integers(0, centres, n)]
        return np.packbits(bits ^ (rng.random(bits.shape, np.float32) < flip), axis=1)

    return np.concatenate([draw(min(n, 10**5)) for _ in range(0, n, 10**5)])[:n], draw(QUERIES)


def uniform(rng: np.random.Generator, n: int, n_bits: int = 64) -> tuple[Codes, Codes]:
    """Random codes and queries."""
    size = n_bits // 8
    return rng.integers(0, 256, (n, size), np.uint8), rng.integers(
        0, 256, (QUERIES, size), np.uint8
    )


def seconds(call: Callable[[], Any], rounds: int = 3) -> float:
    """The best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def compare(codes: Codes, queries: Codes, k: int = K, rounds: int = 3) -> dict[str, float]:
    """Our queries a second against those of Faiss's IndexBinaryFlat, in turn, answers equal."""
    data, lengths = pack([f"{i:08d}" for i in range(len(codes))])
    none = np.full(len(codes), -1, np.int64)
    n_bits = 8 * codes.shape[1]
    rows = Rows(n_bits, Batch(data, lengths, to_words(codes), none, np.arange(len(codes))))
    view = rows.view()
    start = time.perf_counter()
    view.segment.prepare()
    build = time.perf_counter() - start
    flat: Any = faiss.IndexBinaryFlat(n_bits)
    flat.add(codes)
    words = to_words(queries)
    apart, _ = flat.search(queries, k)
    answers = search(view, words, k, None)
    for answer, expected in zip(answers, apart, strict=True):
        if not answer.certificate.exact or (answer.distances != expected).any():
            raise AssertionError(f"expected distances {expected}, got {answer.distances}")
    times = [
        (
            seconds(lambda: flat.search(queries, k), 1),
            seconds(lambda: search(view, words, k, None), 1),
        )
        for _ in range(rounds)
    ]
    theirs, ours = (min(column) for column in zip(*times, strict=True))
    return {
        "ratio": theirs / ours,
        "ms_a_query": 1e3 * ours / len(queries),
        "faiss_ms_a_query": 1e3 * theirs / len(queries),
        "looked": float(np.mean([answer.certificate.looked for answer in answers])),
        "bytes_an_item": view.segment.nbytes / len(codes),
        "build_seconds": build,
    }


def clusters() -> dict[str, float]:
    """A million clustered 64-bit codes."""
    return compare(*clustered(np.random.default_rng(0), 10**6))


def random_codes() -> dict[str, float]:
    """A million uniform 64-bit codes."""
    return compare(*uniform(np.random.default_rng(0), 10**6))


def growth(millions: tuple[int, ...] = (1, 4, 16)) -> Iterator[dict[str, float]]:
    """Clustered codes, more and more of them: in 20,000 clusters, and in clusters of 50."""
    for million in millions:
        for centres in (20_000, million * 20_000):
            codes, queries = clustered(np.random.default_rng(0), million * 10**6, centres=centres)
            figures = compare(codes, queries, rounds=1)
            yield {"millions": million, "centres": centres} | figures


def skewed(
    descriptors: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """48-bit codes of trained and random hashers, and of ten noisy copies of the descriptors."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(descriptors))
    queries, base = descriptors[chosen[:QUERIES]], descriptors[chosen[QUERIES:]]
    few = rng.choice(len(base), 2000, replace=False)
    figures = {}
    for method in ("lsh", "ksh", "net-2"):
        hasher = make_hasher(method, n_bits=48, random_state=0)
        learned = np.full(len(base), -1)
        learned[few] = labels[chosen[QUERIES:]][few]
        if method == "ksh":
            hasher.fit(base[few], learned[few])
        else:
            hasher.fit(base, learned)
        codes, asked = hasher.encode(base), hasher.encode(queries)
        figures[f"{method} x1"] = compare(codes, asked)
        noise = 0.1 * base.std()
        copies = [
            hasher.encode(base + noise * rng.standard_normal(base.shape, np.float32))
            for _ in range(10)
        ]
        figures[f"{method} x10"] = compare(np.concatenate(copies), asked)
        distinct = len(np.unique(codes, axis=0))
        figures[f"{method} x1"]["distinct"] = distinct
    return figures


def main() -> None:
    """Print what takes too long for `python -m bench`."""
    for row in growth():
        print(row, flush=True)
    for path in sys.argv[1:]:
        with np.load(path, allow_pickle=False) as data:
            X, y = data["descriptors"].astype(np.float32), data["labels"].astype(np.int64)
        for name, figures in skewed(X, y).items():
            print(name, figures, flush=True)


if __name__ == "__main__":
    main()
