"""The distinct values of a field, in order, and conditions on them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import chain
from sys import getsizeof
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.memory.view import Mask

# Bytes that a list takes for each value, in addition to the value itself.
_PER_PLACE = 8
# Looking a value up in a sorted list takes about as long as testing this many for membership.
_LOOK_UP = 16


class Other(Enum):
    """A value that is neither number nor string. Lists and objects count as missing."""

    MISSING = 0
    NULL = 1
    TRUE = 2
    FALSE = 3

    # That of `Enum` is a Python function, which would take most of the time of reading a column.
    __hash__ = object.__hash__


class LongInteger(int):
    """An integer of more than 64 bits that no float equals.

    Anybody can choose many of them that share a hash of Python, with which a dictionary of them
    would take the square of their number of steps. So they have another hash.
    """

    def __hash__(self) -> int:
        """Return the hash of the digits, which differs from process to process."""
        return hash(hex(self))


Value = float | str | Other
READY = {float, str, Other}
"""Types of values that `as_value` returns as they are. An integer may be too long."""


def as_value(value: Any) -> Value:
    """Convert a value from JSON. Unlike in Python, 1 and true are different values.

    Equal numbers have equal hashes.
    """
    if value is None:
        return Other.NULL
    if isinstance(value, bool):
        return Other.TRUE if value else Other.FALSE
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else _long(value)
    return value if isinstance(value, float | str | Other) else Other.MISSING


def _long(value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        return LongInteger(value)
    return number if number == value else LongInteger(value)


# Tests are not compared: to Python, those for 1 and for true would be equal.
@dataclass(frozen=True, eq=False)
class Test:
    """A condition on a field.

    Its value is one of `values` or, if there are any bounds, within them. If the field is read as a
    list, the list has one of the values or, with `every`, all of them.
    """

    values: Sequence[Any]
    bounds: Mapping[str, float | str] = field(default_factory=dict)
    every: bool = False

    @cached_property
    def wanted(self) -> frozenset[Value]:
        """The distinct values."""
        is_ready = READY.issuperset(map(type, self.values))
        return frozenset(self.values if is_ready else map(as_value, self.values))

    @cached_property
    def wanted_of_type(self) -> tuple[frozenset[Any], frozenset[Any], frozenset[Any]]:
        """The values of `Other`, the numbers and the strings among the distinct values."""
        if {str}.issuperset(map(type, self.wanted)):  # A second set of them would take memory.
            return frozenset(), frozenset(), self.wanted
        others = self.wanted.intersection(Other)
        texts = frozenset(value for value in self.wanted if isinstance(value, str))
        return others, self.wanted - others - texts, texts


class Values:
    """Distinct values in order: those of `Other`, then numbers, then strings, each ascending."""

    def __init__(self, values: Iterable[Value]) -> None:
        distinct = set(values)
        self._numbers = sorted(v for v in distinct if isinstance(v, int | float))
        self._texts = sorted(v for v in distinct if isinstance(v, str))

    @property
    def size(self) -> int:
        """The number of values."""
        return len(Other) + len(self._numbers) + len(self._texts)

    @cached_property
    def nbytes(self) -> int:
        """Memory that the values occupy."""
        n = len(self._numbers) + len(self._texts)
        return _PER_PLACE * n + sum(map(getsizeof, chain(self._numbers, self._texts)))

    def in_order(self) -> Iterable[Value]:
        """Return all values in their order."""
        return chain(Other, self._numbers, self._texts)

    def meeting(self, test: Test) -> Mask:
        """Return a mask of the values that meet a condition."""
        if not test.bounds:
            others, numbers, texts = test.wanted_of_type
            of_other = np.array([value in others for value in Other])
            return np.concatenate(
                [of_other, _among(self._numbers, numbers), _among(self._texts, texts)]
            )
        met = np.ones(self.size, bool)
        for name, bound in test.bounds.items():
            within = self._within(name, bound)
            met[: within.start] = met[within.stop :] = False
        return met

    def _within(self, name: str, bound: float | str) -> slice:
        same_type, first = self._same_type(bound)
        place = (bisect_right if name in ("gt", "lte") else bisect_left)(same_type, bound)
        if name in ("gt", "gte"):
            return slice(first + place, first + len(same_type))
        return slice(first, first + place)

    def _same_type(self, value: float | str) -> tuple[Sequence[Any], int]:
        """Return the values of the same type, and the place of the first of them."""
        if isinstance(value, str):
            return self._texts, len(Other) + len(self._numbers)
        return self._numbers, len(Other)

    @classmethod
    def join(
        cls, parts: Sequence[Values], used: Sequence[NDArray[np.int64]]
    ) -> tuple[Values, list[NDArray[np.int64]]]:
        """Return the values that are used of all parts, and where those of each part are then.

        `used` are the places of the values that are used of each part.
        """
        ordered = [list(part.in_order()) for part in parts]
        values = cls(
            of_part[place]
            for of_part, places in zip(ordered, used, strict=True)
            for place in places.tolist()
        )
        place_of = {value: place for place, value in enumerate(values.in_order())}
        moved = []
        for of_part, places in zip(ordered, used, strict=True):
            new_places = np.zeros(len(of_part), np.int64)
            new_places[places] = [place_of[of_part[place]] for place in places.tolist()]
            moved.append(new_places)
        return values, moved


def _among(ordered: Sequence[Any], wanted: frozenset[Any]) -> Mask:
    """Return a mask of the values, of one type and in order, that are wanted."""
    n = len(ordered)
    if _LOOK_UP * len(wanted) > n:
        return np.fromiter(map(wanted.__contains__, ordered), bool, n)
    met = np.zeros(n, bool)
    for value in wanted:
        met[bisect_left(ordered, value) : bisect_right(ordered, value)] = True
    return met
