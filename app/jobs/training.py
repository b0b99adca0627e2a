"""Training of encoders as jobs. Their processes load neither FastAPI nor Faiss."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.datasets.catalog import load_dataset
from app.jobs.collection_arrays import read_arrays
from app.jobs.kind import Outcome, Progress, Task
from hashing import Hasher, InvalidInput, make_hasher
from hashing.labels import Labels
from hashing.progress import followed
from hashing.validation import LARGEST_FITTED, as_descriptors, as_labels, check_finite


def check_trainable(hasher: Hasher, *, labelled: bool) -> None:
    """Raise InvalidInput if training the method lacks labels, or torch, here."""
    if hasher.needs_labels and not labelled:
        raise InvalidInput(f"{hasher.method} learns from labels: the training needs them")
    # Looked up without importing it: only the process of the job loads torch.
    if hasher.needs_torch and importlib.util.find_spec("torch") is None:
        raise InvalidInput(
            f"{hasher.method} is trained with torch, which is not installed here: run "
            "`make train-deps`, or train it elsewhere with `bitcell train` and PUT the file"
        )


def pack(descriptors: ArrayLike, labels: ArrayLike | None) -> bytes:
    """Check descriptors and labels as `fit` does, and return them as the material of a job."""
    X = as_descriptors(descriptors)
    check_finite(X, LARGEST_FITTED)
    file = io.BytesIO()
    np.save(file, X, allow_pickle=False)
    if labels is not None:
        if getattr(labels, "ndim", 1) > 1:
            raise InvalidInput(
                "expected one label per descriptor; to train on items with several labels, upload "
                "them as a dataset"
            )
        np.save(file, as_labels(labels, len(X)), allow_pickle=False)
    return file.getvalue()


def work(task: Task, progress: Progress) -> Outcome:
    """Train an encoder; return its fingerprint, with the bytes of its file as the output."""
    request = task.request
    progress(0, 1, "reading")
    X, y, privileged, parameters = _read_data(task, request["method"])
    hasher = make_hasher(
        request["method"], n_bits=request["n_bits"], **parameters | request["params"]
    )
    progress(0, 1, f"fitting on {len(X):,} descriptors")
    with followed(progress):
        hasher.fit(X, y, privileged)
    progress(1, 1, "writing")
    return Outcome({"name": request["name"], "fingerprint": hasher.fingerprint}, hasher.to_bytes())


def _read_data(
    task: Task, method: str
) -> tuple[NDArray[Any], Labels | None, NDArray[Any] | None, dict[str, Any]]:
    """Return descriptors, labels, privileged features, and the parameters that the data decides."""
    training = task.request["training"]
    if "dataset" in training:
        dataset = load_dataset(training["dataset"], task.data_dir)
        # Requests that an earlier version queued do not have the key.
        if not training.get("privileged", True):
            dataset = dataset.without_privileged()
    elif "collection" in training:
        dataset = read_arrays(training["collection"], task.folder)
    else:
        return *_unpack(task.material or b""), None, {}
    return dataset.descriptors, dataset.targets, dataset.privileged, dataset.parameters(method)


def _unpack(material: bytes) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return the descriptors and labels that `pack` packed."""
    file = io.BytesIO(material)
    X = np.load(file, allow_pickle=False)
    y = np.load(file, allow_pickle=False) if file.tell() < len(material) else None
    return X, y
