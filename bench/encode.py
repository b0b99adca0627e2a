"""Encoding against the bare float32 matrix products of the same shapes."""

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
    return _compared(lambda: X @ hasher.weights_, lambda: hasher.encode(X))


def measure_net(n: int = 60_000, d: int = 384, n_bits: int = 48) -> dict[str, float]:
    """The same of `net-2`, against its two products, on descriptors that it takes the root of.

    How long it was trained is nothing to its speed.
    """
    rng = np.random.default_rng(0)
    X = rng.random((n, d), np.float32)
    hasher: Any = make_hasher("net-2", n_bits=n_bits, teacher_steps=1, steps=1)
    hasher.fit(X[:2000], rng.integers(0, 10, 2000))
    return _compared(
        lambda: (X @ hasher.hidden_weights_) @ hasher.weights_, lambda: hasher.encode(X)
    )


def _compared(bare: Callable[[], object], encoded: Callable[[], object]) -> dict[str, float]:
    times = [(seconds(bare), seconds(encoded)) for _ in range(ROUNDS)]
    product, encode = (min(column) for column in zip(*times, strict=True))
    return {"product_seconds": product, "encode_seconds": encode, "ratio": product / encode}


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
