"""What is remembered of the drift of a collection."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from app.service.drift.two_samples import Difference
from index import Patch

LEAST_P = 0.001
"""A test raises an alarm if its p-value is at most this."""

Serials = NDArray[np.int64]


@dataclass(frozen=True)
class Watched:
    """What is known about the drift of a collection.

    Attributes
    ----------
    reference : list of int
        Serial numbers of the items that new ones are compared with, in random order.
    until : int
        New items are those with serial numbers from this on, without those in `known`.
    windows : list of lists of `Difference`
        The last windows, the oldest first.
    tested : int
        Number of windows that were ever tested.
    known : list of [int, int]
        Ranges of serial numbers, from `until` on and ascending, that patches gave to items that
        were not new. The second number of each is the first one behind the range.
    patched : int
        Number of items that patches wrote since `until`.
    followed : int
        Patches whose first new serial number is smaller than this have been followed.
    """

    reference: list[int]
    until: int
    windows: list[list[Difference]] = field(default_factory=list)
    tested: int = 0
    known: list[list[int]] = field(default_factory=list)
    patched: int = 0
    followed: int = 0

    @classmethod
    def from_json(cls, text: str) -> Watched:
        """Return what `json` describes."""
        found = json.loads(text)
        found["windows"] = [[Difference(*one) for one in window] for window in found["windows"]]
        return cls(**found)

    def json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(vars(self))

    def alarms(self) -> list[list[Difference]]:
        """Return the remembered windows that raised an alarm."""
        return [window for window in self.windows if any(one.p_value <= LEAST_P for one in window)]

    def are_new(self, serials: Serials) -> NDArray[np.bool_]:
        """Return which of these items are neither tested nor in an earlier reference."""
        ranges = np.array(self.known, np.int64).reshape(-1, 2)
        # Before the first range, this is the last one, in which no smaller number is.
        places = np.searchsorted(ranges[:, 0], serials, side="right") - 1
        new: NDArray[np.bool_] = serials >= self.until
        if len(ranges):
            first, behind = ranges[places].T
            new &= (serials < first) | (serials >= behind)
        return new

    def after(self, patches: list[Patch], followed: int) -> Watched:
        """Return what is known after patches, in their order; `followed` as in the attributes."""
        if not patches:
            return self
        old = np.concatenate([patch.old for patch in patches])
        new = np.concatenate(
            [np.arange(patch.first, patch.first + len(patch.old)) for patch in patches]
        )
        # For items that were patched several times: the place of their first patch.
        places = np.minimum(np.searchsorted(new, old), len(new) - 1)
        earlier = np.where(new[places] == old, places, np.arange(len(new)))
        while (earlier[earlier] != earlier).any():
            earlier = earlier[earlier]
        origins = old[earlier]
        # Of the patches of an item, the last one comes last in this order.
        order = np.argsort(origins, kind="stable")
        reference = np.array(self.reference, np.int64)
        places = order[np.searchsorted(origins[order], reference, side="right") - 1]
        reference = np.where(origins[places] == reference, new[places], reference)
        return replace(
            self,
            reference=reference.tolist(),
            known=_joined(self.known, new[~self.are_new(origins)]),
            patched=self.patched + len(old),
            followed=followed,
        )


def _joined(ranges: list[list[int]], serials: Serials) -> list[list[int]]:
    """Return ranges, and those of larger, ascending serial numbers."""
    if not len(serials):
        return ranges
    gaps = np.flatnonzero(np.diff(serials) != 1)
    firsts = serials[np.concatenate([[0], gaps + 1])]
    behind = serials[np.concatenate([gaps, [len(serials) - 1]])] + 1
    added = np.stack([firsts, behind], axis=1).tolist()
    if ranges and ranges[-1][1] == added[0][0]:
        added[0][0] = ranges[-1][0]
        ranges = ranges[:-1]
    return [*ranges, *added]
