"""How tests fit each method: quickly, and skipped if torch is needed but missing."""

from __future__ import annotations

from typing import Any

import pytest

from hashing import HASHERS

# Parameters for short training. What the tests check holds for half-trained methods as well.
QUICK: dict[str, dict[str, Any]] = {
    "ksh": {"max_steps": 20, "n_anchors": 100},
    "ssh": {"n_pairs": 2000},
    "siamese-1": {"steps": 40},
    "siamese-2": {"steps": 40, "hidden": 32},
    "net-1": {"steps": 12, "teacher_steps": 8, "hidden": 32},
    "net-2": {"steps": 12, "teacher_steps": 8, "hidden": 32},
}
NEED_TORCH = {"siamese-1", "siamese-2", "net-1", "net-2"}

# The twins of other methods, which are trained by the same code.
TWINS = {"siamese-1", "net-1"}


def each_method() -> list[Any]:
    """Return a parameter for each method; those that take long and have a twin are slow."""
    return [
        pytest.param(method, marks=pytest.mark.slow) if method in TWINS else method
        for method in HASHERS
    ]


def quick(method: str) -> dict[str, Any]:
    """Return parameters for a quick fit; skip the test if torch is needed but not installed."""
    if method in NEED_TORCH:
        needs_torch()
    return QUICK.get(method, {})


def needs_torch() -> Any:
    """Return torch; skip the test if it is not installed."""
    return pytest.importorskip("torch", reason="torch: run `make train-deps`")
