"""Estimated distances on given descriptors: their error, and what a confidence finds and costs.

Run `python -m bench.neighbours bounds FILE…` or `python -m bench.neighbours confidence FILE…` with
dataset files; `gaussian` stands for 20,000 normally distributed descriptors.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.benchmark.rank import euclidean_distances, nearest
from app.datasets.catalog import load_dataset
from bench.collection import item_ids, opened
from bitcodes import unpack
from hashing.methods.rabitq import RaBitQ
from hashing.parts.estimate import EPSILON, epsilon_for, share_within
from index import SearchOptions

QUERIES, K, DIMENSION = 1000, 10, 384
Matrix = NDArray[np.float64]


def descriptors(name: str) -> NDArray[np.float32]:
    """Return the descriptors of a dataset file in random order, or Gaussian ones."""
    rng = np.random.default_rng(0)
    if name == "gaussian":
        return rng.standard_normal((20_000, DIMENSION), np.float32)
    X = load_dataset(name).descriptors
    return np.asarray(X[rng.permutation(len(X))], np.float32)


def bounds(X: NDArray[np.float32]) -> Iterator[tuple[str, ...]]:
    """Yield bits, bias in standard errors, the largest difference from float64, and shares.

    The estimate is compared with one in float64 from the formula of the paper, and with the true
    distance. Each query has 10 items and each of 10 rotations 100 queries: 10,000 pairs.
    """
    for n_bits in (128, 384, 1024):
        errors, within, apart = [], [], []
        for seed in range(10):
            some = np.random.default_rng(seed).choice(len(X), 1100, replace=False)
            items, queries = X[some[:1000]], X[some[1000:]]
            hasher = RaBitQ(n_bits, random_state=seed).fit(X)
            factors = hasher.factors(items)
            estimate = hasher.estimate(queries, hasher.encode(items), factors)
            pairs = np.arange(100)[:, None], np.arange(1000).reshape(100, 10)
            true, formula = _by_the_paper(hasher, queries, items)
            bound = hasher.error_bound(queries, factors)
            error = (estimate - true)[pairs]
            errors.append(error.mean(axis=1))
            within.append(np.abs(error) <= bound[pairs])
            apart.append(np.abs(estimate - formula)[pairs] / bound[pairs])
        mean = np.concatenate(errors)
        bias = float(mean.mean()) / (float(mean.std(ddof=1)) / math.sqrt(len(mean)))
        yield (
            f"{n_bits}",
            f"{bias:+.2f}",
            f"{np.max(apart):.3f}",
            f"{np.mean(within):.4f}",
            f"{share_within(EPSILON, X.shape[1]):.4f}",
        )


def _by_the_paper(
    hasher: RaBitQ, queries: NDArray[np.float32], items: NDArray[np.float32]
) -> tuple[Matrix, Matrix]:
    """Return the true squared distances, and those estimated by the paper's formula in float64."""
    A, centre = hasher.weights_.T.astype(np.float64), hasher.center_.astype(np.float64)
    q, x = queries.astype(np.float64) - centre, items.astype(np.float64) - centre
    length = np.linalg.norm(x, axis=1)
    quantized = (2.0 * unpack(hasher.encode(items), hasher.n_bits) - 1) @ A
    cosine = (quantized * x).sum(axis=1) / length
    inner = length * (q @ quantized.T) / cosine
    squares = (length**2)[None] + (q * q).sum(axis=1)[:, None]
    return squares - 2 * q @ x.T, squares - 2 * inner


def confidence(X: NDArray[np.float32]) -> Iterator[tuple[str, ...]]:
    """Yield confidence, share found, mean number compared, and the depth of equal recall."""
    queries, items = X[:QUERIES], X[QUERIES:]
    hasher = RaBitQ(X.shape[1]).fit(items)
    codes, factors = hasher.encode(items), hasher.factors(items)
    ranks = _ranks(hasher, queries, items)
    with tempfile.TemporaryDirectory() as folder, opened(folder) as store:
        collection = store.create("c", hasher.n_bits, metric="euclidean", keep_descriptors=True)
        ids = item_ids(len(items))
        for first in range(0, len(items), 10_000):
            part = slice(first, first + 10_000)
            collection.upsert(
                ids[part], codes[part], descriptors=items[part], factors=factors[part]
            )
        store.settle()
        true = nearest(queries, items, K, euclidean_distances)
        for probability in (0.9, 0.99):
            found, compared = [], []
            for first in range(0, QUERIES, 50):
                some = queries[first : first + 50]
                answers = collection.search(
                    hasher.encode(some),
                    SearchOptions(K, confidence=probability),
                    descriptors=some,
                    terms=hasher.query_terms(some),
                    epsilon=epsilon_for(probability, X.shape[1]),
                )
                for one, near in zip(answers, true[first : first + 50], strict=True):
                    rows = [int(each.id[5:]) for each in one.neighbours]
                    found.append(np.isin(rows, near).sum() / K)
                    compared.append(one.certificate.reranked or 0)
            share = min(float(np.mean(found)), 1.0)
            depth = int(np.sort(ranks.ravel())[math.ceil(share * ranks.size) - 1]) + 1
            yield (
                f"{probability}",
                f"{share:.4f}",
                f"{np.mean(compared):.0f}",
                f"{np.median(compared):.0f}",
                f"{depth}",
            )


def _ranks(
    hasher: RaBitQ, queries: NDArray[np.float32], items: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the places of the true neighbours in the order of the estimates, (q, k)."""
    codes, factors = hasher.encode(items), hasher.factors(items)
    ranks = np.empty((len(queries), K), np.int64)
    for first in range(0, len(queries), 100):
        some = queries[first : first + 100]
        estimate = hasher.estimate(some, codes, factors)
        for row, (values, near) in enumerate(
            zip(estimate, nearest(some, items, K, euclidean_distances), strict=True), first
        ):
            ordered = np.sort(values)
            ranks[row] = np.searchsorted(ordered, values[near[:K]])
    return ranks


MEASURES = {
    "bounds": (
        bounds,
        ("bits", "bias / standard error", "off the formula / bound", "within bound", "stated"),
    ),
    "confidence": (
        confidence,
        ("confidence", "found", "mean compared", "median", "fixed depth of equal recall"),
    ),
}


def main() -> None:
    """Print a table."""
    measure, headings = MEASURES[sys.argv[1]]
    table = Table("descriptors", *headings)
    for name in sys.argv[2:]:
        for figures in measure(descriptors(name)):
            table.add_row(name.rpartition("/")[2], *figures)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
