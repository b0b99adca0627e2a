"""Try candidates by successive halving: few queries for many of them, many for close ones."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from app.benchmark.rows import Row
from app.recommend.measure import Bounds, Measures, bounds, bytes_of
from app.recommend.pool import Pool
from hashing import InvalidInput
from hashing.progress import Progress, followed

LEVEL = 0.05
"""Probability that any of all bounds fails."""
SHARES = (1 / 4, 1 / 2, 1.0)
"""Share of the choosing queries in each round; the candidates are halved from one to the next."""
_ALWAYS = 2
"""The groups of candidates that are measured in any case."""
_MORE = 6
"""Candidates that are tried after the rounds, at most."""


class Race:
    """Measures candidates until the choice is clear.

    K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
    optimization", AISTATS 2016. Deviations: what grows from round to round is the number of
    queries and lengths; and a candidate also leaves when its bounds decide that it cannot win.

    Parameters
    ----------
    measures : Measures
    pool : Pool
    seconds : float, optional
        No candidate starts to learn that would probably end later.
    progress : callable
    """

    def __init__(
        self, measures: Measures, pool: Pool, seconds: float | None, progress: Progress
    ) -> None:
        self.measures, self.pool = measures, pool
        self.skipped: list[Row] = []
        """Candidates that were not tried for lack of time."""
        self._total = len(measures.data.choosing)
        self._start, self._seconds = time.perf_counter(), seconds
        self._progress, self._done, self._of = progress, 0, 1
        self._bounds: dict[tuple[Row, int, int], Bounds] = {}

    def run(self) -> None:
        """Measure candidates; InvalidInput if none can be measured."""
        goal = self.measures.data.goal
        groups = self.pool.first() if goal.bytes is None else [self.pool.fitting(goal.bytes)]
        self._of = sum(math.ceil(sum(map(len, groups)) * share) for share in (1, 1, 0.5)) + _MORE
        rows = self._begin(groups)
        for share in SHARES[1:]:
            n = math.ceil(share * self._total)
            rows = [row for row in self._kept(rows) if self._measure(row, n)]
        if goal.bytes is None:
            self._settle()
        self._progress(self._of, self._of, "done")

    def _begin(self, groups: list[list[Row]]) -> list[Row]:
        """Measure groups of candidates with few queries; return those that were measured.

        After the second group, longer codes are left out if one reaches the goal beyond doubt.
        """
        n = math.ceil(SHARES[0] * self._total)
        rows: list[Row] = []
        for i, group in enumerate(groups):
            if i >= _ALWAYS and any(map(self.reaches, rows)):
                break
            rows += [row for row in group if self._measure(row, n)]
        if not rows:
            reasons = dict.fromkeys(self.measures.errors.values())
            raise InvalidInput(f"no candidate can be measured: {'; '.join(reasons)}")
        return rows

    def chosen(self) -> list[Row]:
        """Return the candidates that were measured with all queries, the best first."""
        known = [row for row, values in self.measures.values.items() if len(values) == self._total]
        return sorted(known, key=self._order)

    def ordered(self) -> list[Row]:
        """Return all candidates, the best first, by the queries with which they were measured."""
        return sorted(self.measures.values, key=self._order)

    def standing(self, row: Row) -> Bounds:
        """Return the mean of what the goal compares, with bounds that hold for all candidates."""
        values = self.measures.gains(row)
        key = (row, len(values), len(self.measures.values))
        if key not in self._bounds:
            classes = self.measures.data.choosing.classes[: len(values)]
            self._bounds[key] = bounds(values, classes, LEVEL / 2 / len(self.measures.values))
        return self._bounds[key]

    def reaches(self, row: Row) -> bool:
        """Return whether a candidate reaches the goal beyond doubt."""
        threshold = self.measures.data.goal.threshold
        return threshold is None or self.standing(row).low >= threshold

    def fails(self, row: Row) -> bool:
        """Return whether a candidate misses the goal beyond doubt."""
        threshold = self.measures.data.goal.threshold
        return threshold is not None and self.standing(row).high < threshold

    def _order(self, row: Row) -> tuple[float, ...]:
        """Sort by: reaches the goal, fewest bytes, highest mean; then by nearness to the goal."""
        standing, threshold = self.standing(row), self.measures.data.goal.threshold
        if threshold is None:
            return (-standing.mean,)
        if standing.low >= threshold:
            return (0, bytes_of(row), -standing.mean)
        if standing.mean >= threshold:
            return (1, bytes_of(row), -standing.mean)
        return (2, -standing.mean, bytes_of(row))

    def _kept(self, rows: Sequence[Row]) -> list[Row]:
        """Return the candidates of the next round: the better half, and lengths between them."""
        ordered = sorted(rows, key=self._order)
        most = max(2, math.ceil(len(rows) / 2))
        if self.measures.data.goal.bytes is not None:
            return [row for row in ordered if not self._is_beaten(row, ordered[0])][:most]
        kept = [row for row in ordered if not self.fails(row)]
        if kept and self.reaches(kept[0]):
            kept = [row for row in kept if bytes_of(row) <= bytes_of(kept[0])]
        # Where all fail, the nearest go on: longer codes of the same methods may reach the goal.
        kept = (kept or ordered)[:most]
        between = [self._between(method) for method in dict.fromkeys(row.method for row in kept)]
        return kept + [row for row in between if row is not None]

    def _is_beaten(self, row: Row, leader: Row) -> bool:
        """Return whether a candidate is worse than the leader beyond doubt, query by query."""
        if row == leader:
            return False
        difference = self.measures.values[row] - self.measures.values[leader]
        classes = self.measures.data.choosing.classes[: len(difference)]
        return bounds(difference, classes, LEVEL / len(self.measures.values)).high < 0

    def _between(self, method: str, *, surely: bool = False) -> Row | None:
        """Return the length in the middle between one that misses the goal and one that reaches it.

        If no length reaches it yet, it is the next longer one; None if there is none left. By
        default the means decide what reaches it, and with `surely` the bounds do.
        """
        threshold = self.measures.data.goal.threshold
        assert threshold is not None  # noqa: S101
        low, high = 0, None
        for row in self.measures.values:
            if row.method != method or row.n_bits is None:
                continue
            standing = self.standing(row)
            if (standing.low if surely else standing.mean) < threshold:
                low = max(low, row.n_bits)
            else:
                high = min(high or row.n_bits, row.n_bits)
        gap = [n for n in self.pool.lengths if low < n and (high is None or n < high)]
        gap = [n for n in gap if Row(method, n) not in self.measures.errors]
        if not gap:
            return None
        return Row(method, gap[0] if high is None else gap[len(gap) // 2])

    def _settle(self) -> None:
        """Try what could still be a better answer, with all queries."""
        for _ in range(_MORE):
            known = self.chosen()
            best = known[0] if known and self.reaches(known[0]) else None
            rows = [
                row
                for row in self._undecided()
                if row not in self.skipped and (best is None or bytes_of(row) < bytes_of(best))
            ]
            if not rows:
                return
            self._measure(rows[0], self._total)

    def _undecided(self) -> list[Row]:
        """Return candidates that may reach the goal: those that left early, then new lengths.

        The length after one in doubt is among them even where longer codes of the method miss the
        goal, since quality does not always grow with the length.
        """
        ordered = self.ordered()
        threshold = self.measures.data.goal.threshold
        left = [
            row
            for row in ordered
            if len(self.measures.values[row]) < self._total
            and threshold is not None
            and self.standing(row).mean >= threshold
        ]
        after = [
            Row(row.method, min(n for n in self.pool.lengths if n > (row.n_bits or 0)))
            for row in ordered
            if not self.fails(row)
            and not self.reaches(row)
            and (row.n_bits or 0) < self.pool.lengths[-1]
        ]
        methods = dict.fromkeys(row.method for row in ordered)
        between = [self._between(method, surely=True) for method in methods]
        new = [*after, *(row for row in between if row is not None)]
        known = {*self.measures.values, *self.measures.errors}
        return left + [row for row in dict.fromkeys(new) if row not in known]

    def _measure(self, row: Row, n: int) -> bool:
        if row not in self.measures.fitted and self._is_late(row):
            self.skipped.append(row)
            return False
        self._done = min(self._done + 1, self._of - 1)
        self._progress(self._done - 1, self._of, str(row))
        with followed(
            lambda step, steps, stage: self._progress(
                self._done - 1, self._of, f"{row}: {stage}, {step:,} of {steps:,} steps"
            )
        ):
            return self.measures.measure(row, n)

    def _is_late(self, row: Row) -> bool:
        """Return whether a candidate would end after the time, by what its method took before."""
        if self._seconds is None or not self.measures.fitted:
            return False
        used = [
            fitted.seconds * max(1.0, (row.n_bits or 0) / (other.n_bits or 1))
            for other, fitted in self.measures.fitted.items()
            if other.method == row.method
        ]
        left = self._seconds - (time.perf_counter() - self._start)
        return left < (min(used) if used else 0)


def paired(measures: Measures, row: Row, other: Row) -> Bounds:
    """Return how much better one candidate is than another on the same choosing queries.

    The bounds are those of a 95 % interval.
    """
    a, b = measures.values[row], measures.values[other]
    n = min(len(a), len(b))
    return bounds(a[:n] - b[:n], measures.data.choosing.classes[:n], 0.025)
