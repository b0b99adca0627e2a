"""The answer in sentences."""

from __future__ import annotations

from app.benchmark.rows import Row
from app.recommend.choice import Choice, Confirmation
from app.recommend.data import Data
from app.recommend.measure import bytes_of
from app.recommend.race import Race, paired
from hashing.methods.rabitq import RaBitQ


def headline(choice: Choice, data: Data, *, skipped: bool) -> str:
    """Return the sentence with which the answer begins; `skipped` says if time ran out."""
    found, goal = choice.confirmation, data.goal
    code = f"`{found.row.method}` with {found.row.n_bits} bits"
    if not choice.reached:
        none = "None of the candidates that were tried" if skipped else "No candidate"
        return (
            f"{none} reaches the goal, {goal.in_words()}; the nearest is {code}: "
            f"{figures(found, data)}."
        )
    how = _settings(found.row, data)
    return f"Use {code}{f', {how}' if how else ''}: {figures(found, data)}."


def _settings(row: Row, data: Data) -> str:
    """Say how a collection must rank, where it is not by Hamming distance alone."""
    parts = []
    if row.method == RaBitQ.method:
        parts.append("ranked by estimated distances")
    if not data.uses_labels and data.goal.rerank:
        parts.append(f"with the first {data.goal.rerank} ranked again by their descriptors")
    return " and ".join(parts)


def figures(found: Confirmation, data: Data) -> str:
    """Say how good a candidate is and how much smaller than the descriptors.

    Where queries rerank, the codes do not take the place of the descriptors.
    """
    goal, factor = data.goal, raw_bytes(data) / bytes_of(found.row)
    if data.uses_labels and found.raw is not None:
        points = 100 * (found.value - found.raw)
        side = "above" if points >= 0 else "below"
        quality = f"{100 * found.value:.1f} % mAP, {abs(points):.1f} points {side} raw"
    else:
        quality = f"{100 * found.value:.1f} % of the {goal.k} nearest neighbours found"
    reranked = not data.uses_labels and goal.rerank > 0
    if reranked and factor >= 1.5:
        size = f"codes {factor:.0f} times smaller than the descriptors, which are kept too"
    elif reranked:
        size = f"codes of {bytes_of(found.row)} bytes, and the descriptors are kept too"
    else:
        size = f"{factor:.0f} times smaller" if factor >= 1.5 else f"{bytes_of(found.row)} bytes"
    return f"{quality}, {size}"


def raw_bytes(data: Data) -> int:
    """Return the bytes of a descriptor as float32."""
    return int(data.database[0].nbytes)


def confirmed(choice: Choice, data: Data) -> str:
    """Say what the confirming queries showed."""
    found, threshold = choice.confirmation, data.goal.threshold
    start = f"Measured on {found.queries:,} held-out queries that took no part in the choice"
    low = 100 * found.gain.low
    if threshold is None:
        what = "mAP" if data.uses_labels else "recall"
        return f"{start}; with 95 % confidence the {what} is at least {low:.1f} %."
    if data.goal.within is None:
        bound = f"the recall is at least {low:.1f} %"
    else:
        side = "above" if low >= 0 else "below"
        most = "at least" if low >= 0 else "at most"
        bound = f"the mAP is {most} {abs(low):.1f} points {side} raw"
    if choice.sure:
        return f"{start}: the goal is confirmed; with 95 % confidence {bound}."
    if choice.reached:
        return (
            f"{start}: the goal is reached on average, but not beyond doubt; with 95 % confidence "
            f"{bound}. More items, or a lower goal, would decide it."
        )
    return f"{start}; with 95 % confidence {bound}."


def refuted(choice: Choice) -> str | None:
    """Name the candidates that the confirming queries refuted."""
    if not choice.refuted or not choice.reached:
        return None
    names = ", ".join(map(str, choice.refuted))
    return f"The choosing queries preferred {names}, which the held-out queries did not confirm."


def sampled(data: Data) -> str | None:
    """Say that the figures are of a sample, and what differs with all items."""
    total = len(data.dataset)
    if data.n_sampled >= total:
        return None
    text = f"Measured on {data.n_sampled:,} of {total:,} items."
    if not data.uses_labels:
        text += (
            " Among more items a query has more neighbours that are nearly as near, so that recall "
            "is lower: to be sure, use a sample of all items."
        )
    return text


def runner_up(race: Race, chosen: Row) -> tuple[Row, str] | None:
    """Return the second best candidate, of another method if there is one, and why it lost."""
    ordered = [row for row in race.ordered() if row != chosen]
    others = [row for row in ordered if row.method != chosen.method] or ordered
    if not others:
        return None
    row = others[0]
    return row, f"{row} {_why(race, row, chosen)}."


def _why(race: Race, row: Row, chosen: Row) -> str:
    """Say why a candidate lost, by the choosing queries with which both were measured."""
    difference = paired(race.measures, row, chosen)
    what = "mAP" if race.measures.data.uses_labels else "recall"
    points = (
        f"{100 * difference.mean:+.1f} points of {what} (95 % interval {100 * difference.low:+.1f} "
        f"to {100 * difference.high:+.1f})"
    )
    sizes = f"{_bytes(row)} instead of {_bytes(chosen)}"
    if race.measures.data.goal.threshold is None:
        close = ", which is within the error" if difference.high >= 0 else ""
        return f"is worse by the choosing queries: {points}{close}"
    if not race.reaches(row):
        missed = "misses the goal" if race.fails(row) else "does not reach the goal beyond doubt"
        return f"{missed}: {points}, with {sizes}"
    if bytes_of(row) > bytes_of(chosen):
        return f"also reaches the goal, but needs {sizes}: {points}"
    if bytes_of(row) == bytes_of(chosen):
        return f"also reaches the goal in as many bytes, but is no better: {points}"
    return f"is smaller, but the held-out queries did not confirm it: {points}, with {sizes}"


def _bytes(row: Row) -> str:
    n = bytes_of(row)
    return f"{n} byte{'' if n == 1 else 's'}"
