"""Training of an encoder as a job of the service; its process loads neither FastAPI nor Faiss."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.datasets.catalog import load_dataset
from app.http import npy
from app.jobs import collection_files
from app.jobs.kind import Outcome, Progress, Task
from hashing import Hasher, InvalidInput, make_hasher
from hashing.base import LARGEST
from hashing.progress import followed
from hashing.storage import to_bytes
from hashing.validation import as_descriptors, as_labels, check_finite

_ARRAYS = {"descriptors": "fiu", "labels": "iu"}


def check_trainable(hasher: Hasher, *, labelled: bool) -> None:
    """Raise InvalidInput where the method lacks labels, or torch, to be trained here."""
    if hasher.needs_labels and not labelled:
        raise InvalidInput(f"{hasher.method} learns from labels: the training needs them")
    # Asked for, not imported: that is for the process of the job.
    if hasher.needs_torch and importlib.util.find_spec("torch") is None:
        raise InvalidInput(
            f"{hasher.method} is trained with torch, which is not installed here: "
            "`make train-deps` does, or train it elsewhere with `bitcell train` and PUT the file"
        )


def pack(descriptors: ArrayLike, labels: ArrayLike | None) -> bytes:
    """Descriptors and labels as the material of a job, checked as `fit` does."""
    X = as_descriptors(descriptors)
    check_finite(X, LARGEST)
    file = io.BytesIO()
    np.save(file, X, allow_pickle=False)
    if labels is not None:
        np.save(file, as_labels(labels, len(X)), allow_pickle=False)
    return file.getvalue()


def work(task: Task, progress: Progress) -> Outcome:
    """The encoder, as the bytes of its file."""
    asked = task.request
    progress(0, 1, "reading")
    X, y, known = _read(task, asked["method"])
    hasher = make_hasher(asked["method"], n_bits=asked["n_bits"], **known | asked["params"])
    progress(0, 1, f"fitting on {len(X):,} descriptors")
    with followed(progress):
        hasher.fit(X, y)
    progress(1, 1, "writing")
    return Outcome({"name": asked["name"], "fingerprint": hasher.fingerprint}, to_bytes(hasher))


def _read(task: Task, method: str) -> tuple[NDArray[Any], NDArray[np.int64] | None, dict[str, Any]]:
    """Descriptors, labels, and the parameters that the dataset knows."""
    if "dataset" in task.request["training"]:
        loaded = load_dataset(task.request["training"]["dataset"], task.data_dir)
        return loaded.descriptors, loaded.labels, loaded.parameters(method)
    if "collection" in task.request["training"]:
        loaded = collection_files.read(task.request["training"]["collection"], task.folder)
        return loaded.descriptors, loaded.labels, loaded.parameters(method)
    X, *rest = npy.read_arrays(task.material or b"", _ARRAYS)
    return X, rest[0] if rest else None, {}
