"""How well the codes of a method rank, for comparisons between methods."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from app.benchmark.splits import Split
from hashing import make_hasher
from tests.average_precision import mean_average_precision


def ranking_quality(
    method: str, n_bits: int, X: NDArray[Any], labels: NDArray[Any], parts: Split
) -> float:
    """Fit a method on the database of a split; return the mean average precision of its codes."""
    hasher = make_hasher(method, n_bits=n_bits).fit(X[parts.database], parts.y)
    queries, database = parts.queries, parts.database
    return mean_average_precision(
        hasher.encode(X[queries]), labels[queries], hasher.encode(X[database]), labels[database]
    )
