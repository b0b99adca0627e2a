"""What a recommended code must achieve."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hashing import InvalidInput
from hashing.validation import check_int

K, RERANK = 10, 200
"""How many true neighbours are to be found, and how many items are ranked again, by default."""
MAX_POINTS = 100.0

Distance = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Goal:
    """One of three goals, and how neighbours are found.

    Attributes
    ----------
    within : float, optional
        Find the smallest code whose mAP is at most this many points (of 100) below that of the
        descriptors. It needs labels.
    recall : float, optional
        Find the smallest code with which this share of the true neighbours is found. It needs no
        labels.
    bytes : int, optional
        Find the best code of at most this many bytes per item, by mAP with labels and by recall
        without.
    k : int
        How many true neighbours a query has.
    rerank : int
        How many items, the first of a ranking, are ranked again by their descriptors: at least k,
        or 0 for none. It is for goals of recall alone.
    distance : str, optional
        `euclidean` or `cosine`; by default that of the dataset's own neighbours, or `euclidean`.
    """

    within: float | None = None
    recall: float | None = None
    bytes: int | None = None
    k: int = K
    rerank: int = RERANK
    distance: Distance | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.within, self.recall, self.bytes) if each is not None]
        if len(given) != 1:
            raise InvalidInput(
                "expected one goal: within (points of mAP below the descriptors), recall (share of "
                f"true neighbours) or bytes (per item); got {len(given)} of them"
            )
        if self.within is not None:
            _check_share("within", self.within, 0, MAX_POINTS, "points of mAP")
        if self.recall is not None:
            _check_share("recall", self.recall, 0, 1, "a share, such as 0.95")
            if self.recall in (0, 1):
                raise InvalidInput(
                    f"recall must be more than 0 and less than 1, got {self.recall}: no sample can "
                    "show that a code never misses"
                )
        if self.bytes is not None:
            check_int("bytes", self.bytes, 1, 512)
        check_int("k", self.k, 1, 1000)
        check_int("rerank", self.rerank, 0, 10_000)
        if self.within is None:
            check_rerank(self.k, self.rerank)
        if self.distance not in (None, "euclidean", "cosine"):
            raise InvalidInput(
                f"the distance must be euclidean or cosine, got {self.distance!r:.80}"
            )

    @property
    def threshold(self) -> float | None:
        """What a candidate must reach: a difference of mAP, or a recall; None for `bytes`."""
        return self.recall if self.within is None else -self.within / 100

    def as_json(self) -> dict[str, Any]:
        """Return the fields that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def in_words(self) -> str:
        """Describe the goal in half a sentence."""
        if self.within is not None:
            return f"at most {self.within:g} points of mAP below the descriptors"
        found = f"{self.k} nearest neighbours"
        again = f", with the first {self.rerank} ranked again" if self.rerank else ""
        if self.recall is not None:
            return f"{100 * self.recall:g} % of the {found}{again}"
        return f"the best result for at most {self.bytes} bytes per item"


def check_rerank(k: int, rerank: int) -> None:
    """Raise InvalidInput for fewer items to rank again than are to be found."""
    if 0 < rerank < k:
        raise InvalidInput(
            "rerank must be at least k, the neighbours to find, or 0 for none; "
            f"got rerank {rerank} and k {k}"
        )


def _check_share(name: str, value: float, low: float, high: float, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"{name} must be a number ({what}), got {value!r:.80}")
    if not low <= value <= high:
        raise InvalidInput(f"{name} must be from {low:g} to {high:g} ({what}), got {value!r:.80}")
