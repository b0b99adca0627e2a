"""Small datasets for tests of recommendations."""

from __future__ import annotations

import numpy as np

from app.datasets.dataset import Dataset, unlabelled


def clusters(n: int = 600, seed: int = 0, noise: float = 0.6, name: str = "made") -> Dataset:
    """Return four Gaussian clusters in 16 dimensions, whose numbers are the labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    X = 2 * np.eye(4, 16)[y] + noise * rng.standard_normal((n, 16))
    return Dataset(name, X.astype(np.float32), y, np.arange(n).astype(str))


def kinds(n: int = 600) -> Dataset:
    """Return ten overlapping Gaussian clusters in 64 dimensions, whose numbers are the labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=n)
    X = rng.standard_normal((10, 64))[y] + 1.5 * rng.standard_normal((n, 64))
    return Dataset("kinds", X.astype(np.float32), y, np.arange(n).astype(str))


def plain(n: int = 900, seed: int = 0) -> Dataset:
    """Return Gaussian vectors without labels."""
    X = np.random.default_rng(seed).standard_normal((n, 24)) * np.linspace(2, 0.2, 24)
    return unlabelled("plain", X.astype(np.float32))
