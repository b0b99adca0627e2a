"""How `load` cuts items into requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bitcell_client.call import check_lengths
from bitcell_client.codes import Codes, as_packed

BATCH = 10_000
"""Items per request of `load`, or fewer if they do not fit into `_BODY`."""
# Bytes of descriptors in one request: half of what the service accepts by default.
_BODY = 32 << 20
# Bytes of a number in JSON.
_DIGITS = 25


def batches(
    ids: Sequence[str],
    descriptors: ArrayLike | None,
    labels: ArrayLike | None,
    payloads: Sequence[Mapping[str, Any] | None] | None,
    codes: Codes | None,
    batch: int,
) -> list[dict[str, Any]]:
    """Return the arguments of each `upsert`."""
    if (descriptors is None) == (codes is None):
        raise ValueError("expected either descriptors or codes")
    X = as_packed(codes) if codes is not None else np.asarray(descriptors)
    labels = None if labels is None else np.asarray(labels)
    what = "descriptor" if codes is None else "code"
    check_lengths(X, ids, labels, payloads, what)
    # Items with payloads go as JSON, and their descriptors too.
    number = _DIGITS if payloads is not None else X.itemsize
    batch = max(1, min(batch, _BODY // max(1, number * math.prod(X.shape[1:]))))
    parts = [slice(start, start + batch) for start in range(0, len(ids), batch)]
    return [
        {
            "ids": ids[part],
            f"{what}s": X[part],
            "labels": None if labels is None else labels[part],
            "payloads": None if payloads is None else payloads[part],
        }
        for part in parts
    ]
