"""Which methods and code lengths may be tried."""

from __future__ import annotations

from collections.abc import Sequence

from app.benchmark.rows import Row
from app.recommend.measure import bytes_of
from hashing import HASHERS, InvalidInput
from hashing.registry import unknown_method
from hashing.validation import check_int

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
FIRST = (16, 64, 256)
"""The lengths that are tried first."""
WITH_LABELS = ("sdh", "itq", "agh", "sign", "lsh", "rabitq")
WITHOUT_LABELS = ("rabitq", "itq", "sign", "lsh")
"""The methods that are tried by default: those that learn in seconds."""


class Pool:
    """The candidates that may be tried: each method at each code length.

    Attributes
    ----------
    methods : list of str
    lengths : list of int
        Ascending.
    """

    def __init__(self, methods: Sequence[str] | None, max_bits: int, *, uses_labels: bool) -> None:
        check_int("max_bits", max_bits, LENGTHS[0], LENGTHS[-1])
        usual = WITH_LABELS if uses_labels else WITHOUT_LABELS
        self.methods = list(dict.fromkeys(usual if methods is None else methods))
        check_methods(self.methods)
        wanting = [name for name in self.methods if HASHERS[name].needs_labels]
        if wanting and not uses_labels:
            raise InvalidInput(f"{wanting[0]} learns from labels, which this goal does not use")
        self.lengths = [length for length in LENGTHS if length <= max_bits]

    def first(self) -> list[list[Row]]:
        """Return the candidates to begin with: every method at a few lengths, shortest first."""
        lengths = sorted({each for each in FIRST if each in self.lengths} | {self.lengths[-1]})
        return [[Row(method, n) for method in self.methods] for n in lengths[: len(FIRST)]]

    def fitting(self, n_bytes: int) -> list[Row]:
        """Return every method at every length that fits into n_bytes, longest first.

        Quality can fall with the length, so that the longest is not always the best. Raise
        InvalidInput if none fits.
        """
        rows = []
        for method in self.methods:
            fit = [n for n in self.lengths if bytes_of(Row(method, n)) <= n_bytes]
            longest = 8 * (n_bytes - bytes_of(Row(method, 8)) + 1)
            if fit and self.lengths[-1] >= longest > fit[-1]:
                fit.append(longest)
            rows += [Row(method, n) for n in fit]
        if not rows:
            least = min(bytes_of(Row(method, 8)) for method in self.methods)
            raise InvalidInput(
                f"no candidate fits into {n_bytes} bytes: {', '.join(self.methods)} needs at least "
                f"{least}"
            )
        # Where time runs out, every method has been tried at its longest lengths.
        return sorted(rows, key=bytes_of, reverse=True)


def check_methods(methods: Sequence[str]) -> None:
    """Raise InvalidInput for a method that does not exist, or if there is none."""
    if not methods:
        raise InvalidInput(f"expected at least one method; there are {', '.join(HASHERS)}")
    for name in methods:
        if name not in HASHERS:
            raise unknown_method(name, HASHERS)
