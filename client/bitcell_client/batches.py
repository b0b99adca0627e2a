"""How `load` cuts items into requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bitcell_client.call import check_lengths

BATCH = 10_000
"""Items per request of `load`, or fewer if they do not fit into `_BODY`."""
# Bytes of descriptors in one request: half of what the service accepts by default.
_BODY = 32 << 20
# Bytes of a number in JSON.
_DIGITS = 25


def batches(
    ids: Sequence[str],
    descriptors: ArrayLike,
    labels: ArrayLike | None,
    payloads: Sequence[Mapping[str, Any] | None] | None,
    batch: int,
) -> list[tuple[Any, ...]]:
    """Return the arguments of each `upsert`: ids, descriptors, labels, payloads."""
    X, labels = np.asarray(descriptors), None if labels is None else np.asarray(labels)
    check_lengths(X, ids, labels, payloads)
    # Items with payloads go as JSON, and their descriptors too.
    number = _DIGITS if payloads is not None else X.itemsize
    batch = max(1, min(batch, _BODY // max(1, number * math.prod(X.shape[1:]))))
    parts = [slice(start, start + batch) for start in range(0, len(ids), batch)]
    return [
        (
            ids[part],
            X[part],
            None if labels is None else labels[part],
            None if payloads is None else payloads[part],
        )
        for part in parts
    ]
