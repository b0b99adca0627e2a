"""The rows of a benchmark: a method at a code length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hashing import HASHERS, InvalidInput
from hashing.base import MAX_BITS
from hashing.registry import unknown_method
from hashing.validation import check_int

NEIGHBOURS = "neighbours"
"""The protocol without labels."""
NETS = ("net-1", "net-2")
"""The methods that can learn from privileged features."""
RAW = "raw"
"""Euclidean distance between descriptors, without codes."""
COSINE = "raw-cosine"
"""Cosine of descriptors, without codes."""
CLASSIFIER = "classifier"
"""The class that a classifier predicts, as a code of one bit per class."""
BASELINES = (RAW, COSINE, CLASSIFIER)
"""What methods are compared with; the code length is not a choice."""
FAISS_RABITQ = "faiss-rabitq"
FAISS_SQ = "faiss-sq"
FAISS_PQ = "faiss-pq"
FAISS = (FAISS_RABITQ, FAISS_SQ, FAISS_PQ)
"""Indexes of Faiss, which benchmarks of neighbours compare the methods with."""
PRIVILEGED = "+privileged"
"""Ends the name of a row whose method is also taught by the privileged features of a dataset.

Without it a net learns from descriptors alone, also where the dataset has privileged features.
"""
METHODS = (*BASELINES, *HASHERS, *(f"{name}{PRIVILEGED}" for name in NETS))


@dataclass(frozen=True)
class Row:
    """One row: a method, perhaps with `PRIVILEGED`, at a code length.

    Baselines have no code length to choose.
    """

    method: str
    n_bits: int | None

    @property
    def hasher(self) -> str:
        """The name of the method in `HASHERS`."""
        return self.method.removesuffix(PRIVILEGED)

    @property
    def privileged(self) -> bool:
        """Whether the method is taught by privileged features."""
        return self.method.endswith(PRIVILEGED)

    def __str__(self) -> str:
        return self.method if self.n_bits is None else f"{self.method}, {self.n_bits} bits"


def rows(methods: Sequence[str], bits: Sequence[int], *, neighbours: bool = False) -> list[Row]:
    """Return each method at each code length, without duplicates.

    Parameters
    ----------
    methods : sequence of str
    bits : sequence of int
    neighbours : bool
        Whether the benchmark is one of neighbours, which can also measure indexes of Faiss.

    Raises
    ------
    InvalidInput
        A method is unknown, a code length is out of range, or there are none.
    """
    if not methods or not bits:
        raise InvalidInput("a benchmark needs at least one method and one code length")
    known = (*METHODS, *FAISS) if neighbours else METHODS
    for method in methods:
        if method in FAISS and not neighbours:
            raise InvalidInput(f"{method} can only be measured with the protocol {NEIGHBOURS}")
        if method not in known:
            raise unknown_method(method, known)
    for n_bits in bits:
        check_int("bits", n_bits, 1, MAX_BITS)
    return [
        Row(method, n_bits)
        for method in dict.fromkeys(methods)
        for n_bits in ([None] if method in BASELINES else dict.fromkeys(bits))
    ]


def check_reference(method: str | None, table: Sequence[Row]) -> None:
    """Raise InvalidInput if there is a reference that is not a method of the table."""
    methods = dict.fromkeys(row.method for row in table)
    if method is not None and method not in methods:
        raise InvalidInput(
            f"the reference must be one of the methods, {', '.join(methods)}; got {method!r}"
        )
