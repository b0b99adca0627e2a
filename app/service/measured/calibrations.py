"""What Hamming distances mean in a collection: angles, and the share of false matches.

Both are measured on a sample of the collection, once, and again when a tenth of its items has
changed. Samples have a seed: a measurement of the same items gives the same result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from app.service.encoder_store import EncoderStore
from app.service.measured.kept import Checkpoint, Kept
from app.service.measured.pairs import angles_of, distance_counts, pairs_by_distance
from hashing import InvalidInput
from index import Found
from index.backend import Collection, Moment

if TYPE_CHECKING:  # They import scipy, which a service that calibrates nothing does not need.
    from hashing.theory.calibration import Calibration, Radius

LEAST_RATE = 1e-6
"""Smallest rate of false matches that can be asked for."""
MAX_UNRELATED = 1 << 22
"""Most pairs that a rate of false matches is estimated from."""
LEAST_ITEMS = 200
"""Fewest items whose pairs calibrate angles.

Angles are seen from the mean of the items, which is partly each item itself: those between a new
query and the items are other ones. In 768 dimensions, intervals for 90 % cover 79 % of them with 30
items, 86 % with 60 and 90 % with 200.
"""
_SEED = 0
# Bytes of an angle with its interval, or of what a certificate says, in JSON.
_FIELDS = 80

Law = Literal["binomial", "pairs"]
Unrelated = Literal["labels", "random"]


class Angles(NamedTuple):
    """The angle of each Hamming distance, and whether the law or pairs of items gave it."""

    law: Law
    calibration: Calibration


class Matches(NamedTuple):
    """The radius for a rate of false matches, and which pairs counted as unrelated."""

    unrelated: Unrelated
    found: Radius


@dataclass(frozen=True)
class Asked:
    """What a query wants to know about distances.

    Attributes
    ----------
    calibrated : bool
        Whether neighbours have an angle.
    false_match_rate : float, optional
        In place of a radius: the share of unrelated pairs that may match within it.
    """

    calibrated: bool = False
    false_match_rate: float | None = None

    def __bool__(self) -> bool:
        return self.calibrated or self.false_match_rate is not None


NOTHING_ASKED = Asked()


class Meaning(NamedTuple):
    """What a query asked to know about distances; None for what it did not ask for."""

    angles: Angles | None = None
    matches: Matches | None = None

    def size(self, found: list[Found]) -> int:
        """Return about how many bytes it adds to the answer in JSON."""
        n_bytes = _FIELDS * len(found)
        if self.angles is not None:
            n_bytes += _FIELDS * sum(len(one.neighbours) for one in found)
        return n_bytes


NO_MEANING = Meaning()


class _Counts(NamedTuple):
    """How many unrelated pairs there are at each distance."""

    unrelated: Unrelated
    counts: NDArray[np.int64]


@dataclass
class _Measured:
    """What has been measured of a collection."""

    angles: Kept[Angles] = field(default_factory=Kept)
    counts: Kept[_Counts] = field(default_factory=Kept)


class Calibrations:
    """The measured meaning of distances in the collections of a service. Thread-safe."""

    def __init__(self, encoders: EncoderStore) -> None:
        self._encoders = encoders
        self._lock = Lock()
        # A collection that is dropped or re-encoded is another object afterwards.
        self._measured: WeakKeyDictionary[Collection, _Measured] = WeakKeyDictionary()

    def is_ready(self, collection: Collection, asked: Asked) -> bool:
        """Return whether what a query asks has been measured, so that the answer takes no time."""
        of = self._of(collection)
        return not (
            (asked.calibrated and of.angles.fresh(collection) is None)
            or (asked.false_match_rate is not None and of.counts.fresh(collection) is None)
        )

    def meaning(self, collection: Collection, asked: Asked, checkpoint: Checkpoint) -> Meaning:
        """Return what a query asks; raise InvalidInput if it is not known in this collection."""
        if collection.metric is not None:
            raise InvalidInput(
                f"collection {collection.name!r} ranks by estimated distances: calibrated and "
                "false_match_rate are about Hamming distances. There, score estimates the "
                "distance, and error_bound in the certificate says how far off it may be"
            )
        rate = asked.false_match_rate
        return Meaning(
            self.angles(collection, checkpoint) if asked.calibrated else None,
            None if rate is None else self.matches(collection, rate, checkpoint),
        )

    def angles(self, collection: Collection, checkpoint: Checkpoint) -> Angles:
        """Return the angle of each Hamming distance, seen from the mean of the descriptors.

        It is measured on pairs of items where the collection keeps descriptors. Otherwise the law
        of random hyperplanes gives it for their codes. Raise InvalidInput if there is neither.
        """
        return self._of(collection).angles.get(
            collection, lambda: self._measured_angles(collection, checkpoint), checkpoint
        )

    def matches(self, collection: Collection, rate: float, checkpoint: Checkpoint) -> Matches:
        """Return the largest radius at which at most a share of unrelated pairs match.

        Raise InvalidInput if there are too few pairs for that rate.
        """
        from hashing.theory.calibration import least_pairs, radius_for_counts

        unrelated, counts = self._of(collection).counts.get(
            collection,
            lambda: _unrelated_counts(collection.moment(), collection.n_bits, checkpoint),
            checkpoint,
        )
        least, n = least_pairs(rate), int(counts.sum())
        if n < least:
            kind = "with different labels" if unrelated == "labels" else "of items"
            raise InvalidInput(
                f"a rate of false matches of {rate:g} needs at least {least:,} pairs {kind}, in "
                f"which no item occurs twice; collection {collection.name!r} has {n:,}: ask for a "
                "larger rate"
                + (", or label more items" if unrelated == "labels" else ", or insert more items")
            )
        return Matches(unrelated, radius_for_counts(counts, rate))

    def _of(self, collection: Collection) -> _Measured:
        with self._lock:
            return self._measured.setdefault(collection, _Measured())

    def _measured_angles(self, collection: Collection, checkpoint: Checkpoint) -> Angles:
        from hashing.theory.calibration import LEAST_PAIRS, Calibration, binomial_angles

        name, n_bits = collection.name, collection.n_bits
        if not collection.encoder:
            raise InvalidInput(
                f"collection {name!r} holds codes without descriptors: there are no angles to "
                "calibrate its distances with"
            )
        is_law = self._encoders.hasher_of(collection).method == "lsh"
        n_items = n_pairs = 0
        if collection.keep_descriptors:
            moment = collection.moment()
            n_items = len(moment)
        if n_items >= LEAST_ITEMS:
            pairs = pairs_by_distance(moment, n_bits, _SEED, checkpoint)
            distances, angles = angles_of(moment, pairs, checkpoint)
            n_pairs = len(distances)
            if n_pairs >= LEAST_PAIRS:
                found = Calibration.fit(distances, angles, n_bits, seed=_SEED, upper=math.pi)
                return Angles("pairs", found)
        if is_law:
            return Angles("binomial", binomial_angles(n_bits))
        if not collection.keep_descriptors:
            raise InvalidInput(
                f"collection {name!r} keeps no descriptors: calibrated answers need a collection "
                "that keeps them, or an encoder of method 'lsh'"
            )
        if n_items < LEAST_ITEMS:
            raise InvalidInput(
                f"calibrated answers need at least {LEAST_ITEMS} items, because angles are seen "
                f"from their mean; collection {name!r} has {n_items}"
            )
        raise InvalidInput(
            f"calibrated answers need at least {LEAST_PAIRS} pairs of items with different "
            f"descriptors; collection {name!r} has {n_pairs:,} in {n_items:,} items"
        )


def _unrelated_counts(moment: Moment, n_bits: int, checkpoint: Checkpoint) -> _Counts:
    """Count the distances of random pairs in which no item occurs twice.

    If the items with labels have two or more different ones, these are pairs of different labels,
    else pairs of any items.
    """
    labelled = np.flatnonzero(moment.labels >= 0)
    labels = moment.labels[labelled]
    by_label = bool(len(labels)) and bool((labels != labels[0]).any())
    used = labelled if by_label else np.arange(len(moment))
    order = np.random.default_rng(_SEED).permutation(used)
    half = min(len(order) // 2, MAX_UNRELATED)
    first, second = order[:half], order[half : 2 * half]
    if by_label:
        differ = moment.labels[first] != moment.labels[second]
        first, second = first[differ], second[differ]
    counts = distance_counts(moment, first, second, n_bits, checkpoint)
    return _Counts("labels" if by_label else "random", counts)
