"""Reading an uploaded dataset once, in a process whose memory is not that of the service."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.datasets.files import read_dataset
from app.jobs.kind import Outcome, Progress, Task


def work(task: Task, progress: Progress) -> Outcome:
    """Read the file of the request as jobs would; return what it holds.

    Raise BadDataset, which names the file, if it is no dataset.
    """
    path = Path(task.request["file"])
    dataset = read_dataset(path, path.stem, images=True)
    known = dataset.labels[dataset.labels >= 0]
    return Outcome(
        {
            "items": len(dataset),
            "dimension": dataset.descriptors.shape[1],
            "labelled": len(known),
            "classes": len(np.unique(known)),
            "queries": 0 if dataset.given is None else len(dataset.given.queries),
        }
    )
