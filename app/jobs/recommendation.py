"""Recommendations as jobs. Their processes load neither FastAPI nor Faiss."""

from __future__ import annotations

from typing import Any

from app.datasets.catalog import load_dataset
from app.jobs.collection_arrays import read_arrays
from app.jobs.kind import Outcome, Progress, Task
from app.recommend.goal import Goal
from app.recommend.run import recommend

KIND = "recommendation"


def request(
    source: dict[str, str],
    goal: Goal,
    *,
    methods: list[str] | None,
    max_bits: int,
    seconds: float | None,
    items: int | None,
    seed: int,
) -> dict[str, Any]:
    """Return the request of a recommendation as JSON; `source` names a dataset or a collection."""
    return {
        **source,
        "goal": goal.as_json(),
        "methods": methods,
        "max_bits": max_bits,
        "seconds": seconds,
        "items": items,
        "seed": seed,
    }


def work(task: Task, progress: Progress) -> Outcome:
    """Find a recommendation; return it, with the bytes of the encoder's file as the output."""
    asked = task.request
    if "collection" in asked:
        dataset = read_arrays(asked["collection"], task.folder)
    else:
        dataset = load_dataset(asked["dataset"], task.data_dir)
    found = recommend(
        dataset,
        Goal(**asked["goal"]),
        progress,
        methods=asked["methods"],
        max_bits=asked["max_bits"],
        seconds=asked["seconds"],
        n_items=asked["items"],
        seed=asked["seed"],
    )
    return Outcome(found.result, found.hasher.to_bytes())
