"""Encoding against the bare float32 matrix product of the same shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hashing import make_hasher

ROUNDS = 15


def measure(n: int = 60_000, d: int = 384, n_bits: int = 48) -> dict[str, float]:
    """Seconds of both, alternating in one run so that both meet the same machine, and the ratio."""
    X = np.random.default_rng(0).standard_normal((n, d), np.float32)
    hasher: Any = make_hasher("lsh", n_bits=n_bits).fit(X)
    times = [
        (seconds(lambda: X @ hasher.weights_), seconds(lambda: hasher.encode(X)))
        for _ in range(ROUNDS)
    ]
    product, encode = (min(column) for column in zip(*times, strict=True))
    return {"product_seconds": product, "encode_seconds": encode, "ratio": product / encode}


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
