"""The names of the laws. Whoever only checks a request need not load what measures them."""

from __future__ import annotations

from collections.abc import Sequence

from hashing.validation import InvalidInput

LAWS = (
    "width",
    "embedding",
    "calibration",
    "compression",
    "labels",
    "training",
    "privacy",
    "angles",
    "inversion",
)
"""The laws by key, in the order in which they are reported."""
LEAST_ITEMS = 50
"""Fewest items that can be explained."""
ITEMS = 10_000
"""Items of the sample, at most, by default."""


def check_laws(laws: Sequence[str]) -> None:
    """Raise InvalidInput unless there is at least one name and each is one of `LAWS`."""
    if not laws:
        raise InvalidInput(f"expected at least one law, got none; there are {', '.join(LAWS)}")
    if unknown := sorted(set(laws) - set(LAWS)):
        raise InvalidInput(f"there is no law {unknown[0]!r:.80}; there are {', '.join(LAWS)}")
