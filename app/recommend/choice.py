"""Confirm the choice on queries that took no part in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.benchmark.averages import mean
from app.benchmark.rows import Row
from app.recommend.data import Queries
from app.recommend.measure import Bounds, Measures, bounds
from app.recommend.race import LEVEL, Race

TRIES = 3
"""Candidates that are confirmed at most; the bounds of all of them hold together with 95 %."""


@dataclass(frozen=True)
class Confirmation:
    """What the second set of queries says of a candidate.

    Attributes
    ----------
    row : Row
    value : float
        Its mAP or its recall.
    gain : Bounds
        What the goal compares: the difference to the descriptors, or the value itself. The lower
        bound holds with 95 % for all confirmations together.
    raw : float or None
        The mAP of the descriptors.
    queries : int
    """

    row: Row
    value: float
    gain: Bounds
    raw: float | None
    queries: int


@dataclass(frozen=True)
class Choice:
    """The recommended candidate.

    Attributes
    ----------
    confirmation : Confirmation
        Of the recommended candidate; of the nearest one if none reaches the goal.
    reached : bool
        Whether it reaches the goal, by the mean over the confirming queries.
    sure : bool
        Whether it does so by the lower bound too.
    refuted : list of Row
        Candidates that were chosen before it and did not hold.
    """

    confirmation: Confirmation
    reached: bool
    sure: bool
    refuted: list[Row]


def choose(race: Race) -> Choice:
    """Return the first candidate in the order of the race that the confirming queries confirm.

    Those that the choosing queries leave in doubt are tried only where no other one holds. The
    nearest one to the goal is always among those that are tried.
    """
    measures = race.measures
    threshold = measures.data.goal.threshold
    ordered = race.chosen()
    queries = measures.data.confirming
    if threshold is None:
        return Choice(_confirm(measures, ordered[0], queries, LEVEL), True, True, [])
    nearest = max(ordered, key=lambda row: race.standing(row).mean)
    wanted = [row for row in ordered if race.standing(row).mean >= threshold][:TRIES]
    if nearest not in wanted:
        wanted = [*wanted[: TRIES - 1], nearest]
    found: list[Confirmation] = []
    for row in wanted:
        one = _confirm(measures, row, queries, LEVEL / TRIES)
        if one.gain.low >= threshold:
            return Choice(one, True, True, [each.row for each in found])
        found.append(one)
    held = [one for one in found if one.gain.mean >= threshold]
    if held:
        before = found[: found.index(held[0])]
        return Choice(held[0], True, False, [each.row for each in before])
    best = max(found, key=lambda one: one.gain.mean)
    return Choice(best, False, False, [one.row for one in found if one is not best])


def _confirm(measures: Measures, row: Row, queries: Queries, outside: float) -> Confirmation:
    values = measures.on(row, queries, slice(0, len(queries)))
    raw = queries.raw
    gains = values if raw is None or measures.data.goal.within is None else values - raw
    return Confirmation(
        row,
        mean(values),
        bounds(gains, queries.classes, outside),
        None if raw is None else mean(raw),
        int(np.count_nonzero(~np.isnan(values))),
    )
