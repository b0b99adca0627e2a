"""Encoding, against the bare float32 matrix products of the same shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.measuring import in_turn
from hashing import make_hasher

ROUNDS = 15


def measure(n: int = 60_000, d: int = 384, n_bits: int = 48) -> dict[str, float]:
    """Return the best seconds of `lsh` and of its product, and their ratio."""
    X = np.random.default_rng(0).standard_normal((n, d), np.float32)
    hasher: Any = make_hasher("lsh", n_bits=n_bits).fit(X)
    return _compare(lambda: X @ hasher.weights_, lambda: hasher.encode(X))


def measure_net(n: int = 60_000, d: int = 384, n_bits: int = 48) -> dict[str, float]:
    """Return the same for `net-2`, against its two products.

    The descriptors are non-negative, so the net takes their square root. It is trained for one
    step only: training does not change its speed.
    """
    rng = np.random.default_rng(0)
    X = rng.random((n, d), np.float32)
    hasher: Any = make_hasher("net-2", n_bits=n_bits, teacher_steps=1, steps=1)
    hasher.fit(X[:2000], rng.integers(0, 10, 2000))
    return _compare(
        lambda: (X @ hasher.hidden_weights_) @ hasher.weights_, lambda: hasher.encode(X)
    )


def _compare(product: Callable[[], object], encode: Callable[[], object]) -> dict[str, float]:
    times = in_turn([lambda _: product(), lambda _: encode()], ROUNDS)
    product_seconds, encode_seconds = times.min(axis=0).tolist()
    return {
        "product_seconds": product_seconds,
        "encode_seconds": encode_seconds,
        "ratio": product_seconds / encode_seconds,
    }
