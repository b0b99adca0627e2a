"""Explanations as jobs. Their processes load neither FastAPI nor Faiss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.datasets.catalog import load_dataset
from app.jobs.collection_arrays import read_arrays
from app.jobs.kind import Outcome, Progress, Task
from hashing import load_hasher

KIND = "explanation"

_ENCODER = "encoder.safetensors"


def request(
    source: dict[str, str], laws: list[str], encoder: str | None, items: int, seed: int
) -> dict[str, Any]:
    """Return the request of an explanation as JSON.

    Parameters
    ----------
    source : dict
        `{"dataset": name}` or `{"collection": name}`.
    laws : list of str
        Keys of `app.explain.laws.LAWS`.
    encoder : str or None
        The encoder that is compared with random ones; None for one that the job trains.
    items : int
        Items of the sample, at most.
    seed : int
    """
    return {**source, "laws": laws, "encoder": encoder, "items": items, "seed": seed}


def write_encoder(file: bytes, folder: Path) -> None:
    """Write the file of the encoder that `work` compares."""
    (folder / _ENCODER).write_bytes(file)


def work(task: Task, progress: Progress) -> Outcome:
    """Measure the laws; return what was found, with the HTML report as the output."""
    # They load scipy, which the service does not need at its start.
    from app.explain.data import Encoder
    from app.explain.render import render
    from app.explain.run import explain

    request = task.request
    progress(0, len(request["laws"]), "reading")
    if "collection" in request:
        dataset = read_arrays(request["collection"], task.folder)
    else:
        dataset = load_dataset(request["dataset"], task.data_dir)
    name, encoder = request["encoder"], None
    if name is not None:
        encoder = Encoder(name, load_hasher(task.folder / _ENCODER))
    found = explain(
        dataset,
        progress,
        laws=request["laws"],
        encoder=encoder,
        n_items=request["items"],
        seed=request["seed"],
    )
    return Outcome(found.as_json(), render(found).encode())
