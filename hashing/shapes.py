"""The shapes that learned arrays must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hashing.validation import InvalidInput


@dataclass(frozen=True)
class UpTo:
    """A size that the data decides, from 1 to `limit`; equal in all arrays that name it."""

    limit: int
    name: str

    def __repr__(self) -> str:
        return f"1 to {self.limit} {self.name}"


Shape = tuple[int | UpTo, ...]


def count_values(shapes: Mapping[str, Shape]) -> int:
    """Return how many numbers arrays of these shapes hold, at most."""
    return sum(
        math.prod(size.limit if isinstance(size, UpTo) else size for size in shape)
        for shape in shapes.values()
    )


def check_shapes(arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, Shape]) -> None:
    """Raise InvalidInput unless each array has the shape under its name.

    Parameters
    ----------
    arrays, shapes : mappings with the same keys
    """
    known: dict[str, int] = {}
    for name, shape in shapes.items():
        actual = arrays[name].shape
        # A size that an earlier array has settled is a number from there on.
        expected = tuple(
            known.get(size.name, size) if isinstance(size, UpTo) else size for size in shape
        )
        if len(actual) != len(expected) or not all(map(_fits, actual, expected)):
            raise InvalidInput(
                f"{name} must have shape {expected} for these parameters and this number of "
                f"features, got {actual}"
            )
        known |= {
            size.name: length
            for size, length in zip(shape, actual, strict=True)
            if isinstance(size, UpTo)
        }


def _fits(length: int, size: int | UpTo) -> bool:
    return 1 <= length <= size.limit if isinstance(size, UpTo) else length == size
