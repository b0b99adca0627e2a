"""Recommend a method and a code length."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.benchmark.averages import mean
from app.benchmark.rows import Row
from app.datasets.dataset import Dataset
from app.recommend import words
from app.recommend.choice import Choice, choose
from app.recommend.data import Data
from app.recommend.goal import Goal
from app.recommend.measure import Measures, bounds, bytes_of
from app.recommend.pool import LENGTHS, Pool
from app.recommend.race import LEVEL, Race
from hashing import HASHERS, Hasher, InvalidInput
from hashing.methods.rabitq import RaBitQ
from hashing.progress import Progress

SECONDS = 90.0
"""No further candidate is tried after this many seconds, unless nets take part."""


@dataclass(frozen=True)
class Recommendation:
    """A recommendation.

    Attributes
    ----------
    result : dict
        JSON; see `recommend`.
    hasher : Hasher
        The encoder that was measured and confirmed; the nearest one if none reaches the goal.
    """

    result: dict[str, Any]
    hasher: Hasher


def recommend(
    dataset: Dataset,
    goal: Goal,
    progress: Progress = lambda done, total, description: None,
    *,
    methods: Sequence[str] | None = None,
    max_bits: int = LENGTHS[-1],
    seconds: float | None = None,
    n_items: int | None = None,
    seed: int = 0,
) -> Recommendation:
    """Find the smallest code that reaches a goal, or the best one of a size.

    Parameters
    ----------
    dataset : Dataset
    goal : Goal
    progress : callable, optional
        Takes the steps done, the steps in all, and what is measured.
    methods : sequence of str, optional
        By default those that learn in seconds; nets take part only where they are named.
    max_bits : int
    seconds : float, optional
        More than 0. No further candidate is tried after this time; by default `SECONDS`, or no
        limit if a net takes part.
    n_items : int, optional
        Items of the sample, at most: by default 10,000 with labels, and 100,000 without.
    seed : int
        Of the sample, its parts, and the methods.

    Returns
    -------
    Recommendation
        Its `result` has `answer`, the sentence that says what to use; `notes`, what was confirmed
        and what else matters; `reached`, whether the goal is reached on the held-out queries, and
        `confirmed`, whether beyond doubt; `recommended`, with the settings of the collection and
        of its queries, or None; `nearest`, the same for the measured candidate that comes nearest
        if none reaches the goal; `runner_up`; `candidates`, the table.

    Raises
    ------
    InvalidInput
        There are too few items or queries, items are all equal, labels are missing, or no candidate
        can be measured.
    """
    if seconds is not None and not seconds > 0:
        raise InvalidInput(f"seconds must be a number above 0, got {seconds!r:.80}")
    start = time.perf_counter()
    progress(0, 1, "drawing a sample")
    data = Data(dataset, goal, n_items, seed)
    pool = Pool(methods, max_bits, uses_labels=data.uses_labels)
    if seconds is None and not any(HASHERS[name].needs_torch for name in pool.methods):
        seconds = SECONDS
    race = Race(Measures(data), pool, seconds, progress)
    race.run()
    choice = choose(race)
    result = _result(race, choice) | {"seconds": round(time.perf_counter() - start, 2)}
    return Recommendation(result, race.measures.fitted[choice.confirmation.row].hasher)


def _result(race: Race, choice: Choice) -> dict[str, Any]:
    data, found = race.measures.data, choice.confirmation
    second = words.runner_up(race, found.row)
    notes = [words.confirmed(choice, data), words.refuted(choice), words.sampled(data)]
    if race.skipped:
        skipped = "; ".join(map(str, dict.fromkeys(race.skipped)))
        notes.append(f"Not tried for lack of time: {skipped}.")
    recommended = _recommended(found.row, data) | {
        "value": found.value,
        "gain": found.gain.mean,
        "gain_low": found.gain.low,
        "queries": found.queries,
    }
    return {
        "answer": words.headline(choice, data, skipped=bool(race.skipped)),
        "notes": [note for note in notes if note is not None],
        "goal": data.goal.as_json() | {"distance": data.distance, "in_words": data.goal.in_words()},
        "measure": "map" if data.uses_labels else "recall",
        "reached": choice.reached,
        "confirmed": choice.sure,
        "recommended": recommended if choice.reached else None,
        "nearest": None if choice.reached else recommended,
        "runner_up": None
        if second is None
        else {"method": second[0].method, "n_bits": second[0].n_bits, "why": second[1]},
        "raw": _raw(data),
        "candidates": _candidates(race, found.row),
        "dataset": {
            "name": data.dataset.name,
            "items": len(data.dataset),
            "sampled": data.n_sampled,
            "dimension": data.database.shape[1],
            "training": len(data.X),
            "database": len(data.database),
            "choosing": len(data.choosing),
            "seed": data.seed,
        },
    }


def _recommended(row: Row, data: Data) -> dict[str, Any]:
    """Return a candidate with what its collection and queries must be."""
    estimated = row.method == RaBitQ.method
    reranked = not data.uses_labels and data.goal.rerank > 0
    query: dict[str, Any] = {}
    if reranked:
        by = "cosine" if data.distance == "cosine" else "descriptors"
        query = {"rerank": data.goal.rerank, "rerank_by": by}
    return {
        "method": row.method,
        "n_bits": row.n_bits,
        "bytes_per_item": bytes_of(row),
        "times_smaller": words.raw_bytes(data) / bytes_of(row),
        "collection": {
            "ranking": "estimate" if estimated else "hamming",
            "metric": data.distance if estimated else None,
            "keep_descriptors": "float32" if reranked else False,
        },
        "query": query,
    }


def _raw(data: Data) -> dict[str, Any]:
    raw = data.choosing.raw
    figures: dict[str, Any] = {"bytes_per_item": words.raw_bytes(data), "map": None}
    return figures if raw is None else figures | {"map": mean(raw)}


def _candidates(race: Race, chosen: Row) -> list[dict[str, Any]]:
    """Return the table: the recommended candidate first, and those that could not be measured."""
    measures = race.measures
    rows = sorted(
        measures.values,
        key=lambda row: (row != chosen, race.pool.methods.index(row.method), row.n_bits or 0),
    )
    table = []
    for row in rows:
        values = measures.values[row]
        classes = measures.data.choosing.classes[: len(values)]
        value = bounds(values, classes, LEVEL / 2 / len(measures.values))
        gain = race.standing(row)
        table.append(
            {
                "method": row.method,
                "n_bits": row.n_bits,
                "bytes_per_item": bytes_of(row),
                "value": value.mean,
                "interval": [max(0.0, value.low), min(1.0, value.high)],
                "gain": gain.mean,
                "gain_interval": [gain.low, gain.high],
                "queries": len(values),
                "fit_seconds": measures.fitted[row].seconds,
                "verdict": _verdict(race, row, chosen),
            }
        )
    return table + [
        {"method": row.method, "n_bits": row.n_bits, "error": error}
        for row, error in measures.errors.items()
    ]


def _verdict(race: Race, row: Row, chosen: Row) -> str:
    if race.measures.data.goal.threshold is None:
        return "best" if row == chosen else "worse"
    return "reaches" if race.reaches(row) else "fails" if race.fails(row) else "open"
