"""The dataset type: descriptors with labels, and optionally images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing import HASHERS
from hashing.estimator import parameters
from hashing.gist import Gist
from hashing.labels import Labels
from hashing.validation import as_descriptors, check_finite


class BadDataset(ValueError):
    """The data is not a valid dataset. The message says what was expected."""


@dataclass(frozen=True)
class Given:
    """Queries that come with a dataset and are not among its items.

    Attributes
    ----------
    queries : (q, d) float32
    neighbours : (q, k) intp, or None
        The positions of the true neighbours of each query, nearest first.
    distance : str
        `euclidean` or `cosine`: by which they are nearest.
    """

    queries: NDArray[np.float32]
    neighbours: NDArray[np.intp] | None
    distance: str


@dataclass(frozen=True)
class Dataset:
    """Descriptors with labels.

    Attributes
    ----------
    name : str
    descriptors : (n, d) float32
    labels : (n,) int64
        -1 for an item without a label, and for every item if there are `label_sets`.
    ids : (n,) str
    class_names : (c,) str, or None
        The name of class i.
    label_sets : (n, c) bool, or None
        Which labels each item has, if items may have several.
    given : Given, or None
        The queries that come with the dataset.
    images : (n, h, w, 3) uint8, or None
    mirror : (d,) intp, or None
        ``descriptors[:, mirror]`` are the descriptors of the mirror images.
    privileged : (n, p) floats, or None
        What is known of the items but not of queries, for the training of nets; NaN in the whole
        row where it is unknown.
    privileged_mirror : (p,) intp, or None
        ``privileged[:, privileged_mirror]`` are the privileged features of the mirror images.
    """

    name: str
    descriptors: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    class_names: NDArray[np.str_] | None = None
    label_sets: NDArray[np.bool_] | None = None
    given: Given | None = None
    images: NDArray[np.uint8] | None = None
    mirror: NDArray[np.intp] | None = None
    privileged: NDArray[np.floating] | None = None
    privileged_mirror: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    @property
    def targets(self) -> Labels:
        """What `fit` learns from: the `label_sets` if there are any, and otherwise the `labels`."""
        return self.labels if self.label_sets is None else self.label_sets

    def one_label_each(self, purpose: str) -> NDArray[np.int64]:
        """Return `labels`; raise BadDataset if items have several."""
        if self.label_sets is not None:
            raise BadDataset(
                f"items of {self.name} have several labels each; {purpose} needs one each"
            )
        return self.labels

    def names_of(self, item: int) -> str:
        """Return the names of the classes of an item."""
        if self.label_sets is None:
            return self.class_name(int(self.labels[item]))
        names = [self.class_name(label) for label in np.flatnonzero(self.label_sets[item]).tolist()]
        return ", ".join(names) or self.class_name(-1)

    def class_name(self, label: int) -> str:
        """Return the name of a class, or `class N` if it has none."""
        names = self.class_names
        if label < 0:
            return "no label"
        return str(names[label]) if names is not None and label < len(names) else f"class {label}"

    def parameters(self, method: str) -> dict[str, Any]:
        """Return the constructor parameters of a method that this dataset determines."""
        orders = {"mirror": self.mirror, "privileged_mirror": self.privileged_mirror}
        taken = parameters(HASHERS[method])
        return {
            name: order.tolist()
            for name, order in orders.items()
            if order is not None and name in taken
        }

    def without_privileged(self) -> Dataset:
        """Return the dataset with the descriptors as all that is known of an item."""
        return replace(self, privileged=None, privileged_mirror=None)

    def with_mirror(self, kind: str) -> Dataset:
        """Return a copy with the mirror permutation of a kind of descriptor.

        Raises
        ------
        BadDataset
            The kind is not `gist`, or the descriptors do not have the dimension of GIST.
        """
        if kind != "gist":
            raise BadDataset(f"mirror must be `gist`, got {kind!r}")
        mirror = Gist().mirror
        if len(mirror) != self.descriptors.shape[1]:
            raise BadDataset(
                f"GIST has {len(mirror)} dimensions, {self.name} has {self.descriptors.shape[1]}"
            )
        return replace(self, mirror=mirror)


def unlabelled(name: str, descriptors: NDArray[Any]) -> Dataset:
    """Return descriptors as a dataset without labels; InvalidInput if they are none."""
    descriptors = as_descriptors(descriptors)
    check_finite(descriptors)
    n = len(descriptors)
    return Dataset(
        name=name,
        descriptors=np.ascontiguousarray(descriptors, np.float32),
        labels=np.full(n, -1),
        ids=np.arange(n).astype(np.str_),
    )
