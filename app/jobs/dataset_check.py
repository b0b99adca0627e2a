"""Reading an uploaded dataset once, in a process whose memory is not that of the service."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.datasets.files import read_dataset
from app.jobs.kind import Outcome, Progress, Task
from hashing.labels import class_sizes, is_labelled


def work(task: Task, progress: Progress) -> Outcome:
    """Read the file of the request, under its name, as jobs would; return what it holds.

    Raise BadDataset, which names the file, if it is no dataset.
    """
    dataset = read_dataset(Path(task.request["file"]), task.request["name"], images=True)
    return Outcome(
        {
            "items": len(dataset),
            "dimension": dataset.descriptors.shape[1],
            "labelled": int(np.count_nonzero(is_labelled(dataset.targets))),
            "classes": len(class_sizes(dataset.targets)),
            "queries": 0 if dataset.given is None else len(dataset.given.queries),
        }
    )
