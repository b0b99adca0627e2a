"""Collections that rank by estimated distances: what their encoder must be, and what it adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing import Hasher, InvalidInput
from hashing.methods.rabitq import RaBitQ
from hashing.parts.estimate import QueryTerms
from index import Metric
from index.backend import Collection


def estimator(hasher: Hasher, metric: Metric | None, encoder: str) -> tuple[RaBitQ, Metric]:
    """Return an encoder as one that estimates a metric, and the metric: by default its first one.

    Raise InvalidInput if it does not estimate it.
    """
    if not isinstance(hasher, RaBitQ):
        raise InvalidInput(
            f"ranking 'estimate' needs an encoder with factors, of method 'rabitq'; {encoder!r} is "
            f"of method {hasher.method!r}"
        )
    if metric not in (None, *hasher.metrics):
        needed = "that normalizes" if metric == "cosine" else "that does not normalize"
        raise InvalidInput(
            f"metric {metric!r} needs a rabitq encoder {needed}; {encoder!r} estimates "
            f"{' and '.join(hasher.metrics)}"
        )
    return hasher, metric or hasher.metrics[0]


def factors_of(
    hasher: Hasher, collection: Collection, descriptors: ArrayLike
) -> NDArray[np.float32]:
    """Return the factors of items in a collection that ranks by estimates."""
    checked, metric = estimator(hasher, collection.metric, collection.encoder)
    return checked.factors(descriptors, metric)


def terms_of(hasher: Hasher, collection: Collection, descriptors: ArrayLike) -> QueryTerms:
    """Return what queries contribute to estimates in a collection that ranks by them."""
    checked, metric = estimator(hasher, collection.metric, collection.encoder)
    return checked.query_terms(descriptors, metric)
