"""How tests fit each method: quickly, and not where what it needs is missing."""

from __future__ import annotations

from typing import Any

import pytest

# Parameters that make training short; what is tested holds for a method that is half trained.
QUICK: dict[str, dict[str, Any]] = {
    "ksh": {"max_steps": 20, "n_anchors": 100},
    "ssh": {"n_pairs": 2000},
    "net-1": {"steps": 60, "teacher_steps": 30, "hidden": 32},
    "net-2": {"steps": 60, "teacher_steps": 30, "hidden": 32},
}
NEED_TORCH = {"net-1", "net-2"}


def quick(method: str) -> dict[str, Any]:
    """Parameters for a quick fit; skips the test where torch is needed and not installed."""
    if method in NEED_TORCH:
        needs_torch()
    return QUICK.get(method, {})


def needs_torch() -> Any:
    """torch; skips the test where it is not installed."""
    return pytest.importorskip("torch", reason="torch: run `make train-deps`")
