"""The sample of a dataset that all laws are measured on, and the encoders that they compare."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import mean
from app.benchmark.rank import euclidean_distances, rank_by_label, rank_codes
from app.benchmark.tied_rankings import harmonic_numbers
from app.datasets.dataset import Dataset
from app.explain.laws import LEAST_ITEMS
from bitcodes import Codes
from hashing import Hasher, InvalidInput, make_hasher
from hashing.arrays import Float64Array
from hashing.theory.samples import classes_of, directions, sample
from hashing.validation import check_int

N_BITS = 64
"""Code length of the encoders that are compared."""
_QUERIES = 500
_TRAINED = "sdh"
# Labels per class that a trained method learns from, at most.
_LABELS = 200


@dataclass(frozen=True)
class Encoder:
    """A fitted encoder and its name."""

    name: str
    hasher: Hasher


class Data:
    """A sample of a dataset, in two halves: encoders learn from one and are measured on the other.

    Attributes
    ----------
    X : (n, d) float32
        The descriptors of the sample.
    y : (n,) int64
        Labels, -1 for none.
    learn, test : (n / 2,) intp
        Positions of the two halves.
    """

    def __init__(
        self, dataset: Dataset, n_items: int, seed: int, trained: Encoder | None = None
    ) -> None:
        if len(dataset) < LEAST_ITEMS:
            raise InvalidInput(f"expected at least {LEAST_ITEMS} descriptors, got {len(dataset)}")
        check_int("seed", seed, 0, 2**63 - 1)
        chosen = sample(len(dataset), n_items, seed)
        self.seed = seed
        self.X: NDArray[np.float32] = dataset.descriptors[chosen]
        self.y = dataset.labels[chosen]
        self._several = dataset.label_sets is not None
        directions(self.X, LEAST_ITEMS, "an explanation")
        order = np.random.default_rng(seed).permutation(len(self.X))
        self.learn, self.test = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        if trained is not None and trained.hasher.n_features_in_ != self.X.shape[1]:
            raise InvalidInput(
                f"the encoder expects descriptors of dimension {trained.hasher.n_features_in_}, "
                f"the dataset has {self.X.shape[1]}"
            )
        self._trained = trained

    @cached_property
    def unit(self) -> Float64Array:
        """The descriptors less their mean, scaled to length 1."""
        return directions(self.X, LEAST_ITEMS, "an explanation")

    @cached_property
    def random(self) -> Encoder:
        """Random hyperplanes."""
        return Encoder("random hyperplanes", self.fit("lsh", N_BITS))

    @cached_property
    def trained(self) -> Encoder:
        """The encoder that was given, or else one that is trained on the first half."""
        if self._trained is not None:
            return self._trained
        self.classes(self.learn, "training")
        return Encoder(_TRAINED, self.fit(_TRAINED, N_BITS))

    def classes(self, part: NDArray[np.intp], law: str) -> NDArray[np.int64]:
        """Return the labels of a part; InvalidInput unless two classes have two items each."""
        if self._several:
            raise InvalidInput(f"{law} needs one label for each item, and items have several")
        return classes_of(self.y[part], len(part), law)

    @property
    def trained_name(self) -> str | None:
        """The name of the trained encoder; None if no law has used one."""
        return self.trained.name if "trained" in vars(self) else None

    def fit(self, method: str, n_bits: int, labels: NDArray[np.int64] | None = None) -> Hasher:
        """Fit a method to the first half; by default it sees up to `_LABELS` labels per class."""
        if labels is None:
            labels = few_labels(self.y[self.learn], _LABELS, self.seed)
        hasher = make_hasher(method, n_bits=n_bits, random_state=self.seed)
        return hasher.fit(self.X[self.learn], labels)

    def mean_average_precision(self, hasher: Hasher) -> float:
        """Return the mAP of queries from the second half among the other items of that half."""
        queries, database = self._split
        return map_of_codes(
            hasher.encode(self.X[queries]),
            self.y[queries],
            hasher.encode(self.X[database]),
            self.y[database],
        )

    @cached_property
    def raw_map(self) -> float:
        """The mAP of Euclidean distance."""
        queries, database = self._split
        blocks = euclidean_distances(self.X[queries], self.X[database])
        harmonic = harmonic_numbers(len(database))
        rankings = rank_by_label(blocks, self.y[queries], self.y[database])
        return mean(np.concatenate([one.average_precision(harmonic) for one in rankings]))

    @cached_property
    def _split(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        order = np.random.default_rng(self.seed + 1).permutation(self.test[self.y[self.test] >= 0])
        if not len(order):
            several = "items have several labels each, and one each is needed"
            raise InvalidInput(several if self._several else "no item has a label")
        n = min(_QUERIES, len(order) // 4)
        queries, database = order[:n], order[n:]
        if not np.isin(self.y[queries], self.y[database]).any():
            raise InvalidInput("no query has another item of its class")
        return queries, database


def few_labels(y: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """Return labels of at most `per_class` items of each class, at random; -1 for the others."""
    rng = np.random.default_rng(seed)
    kept = np.full(len(y), -1)
    for label in np.unique(y[y >= 0]):
        own = rng.permutation(np.flatnonzero(y == label))[:per_class]
        kept[own] = label
    return kept


def map_of_codes(
    query_codes: Codes, query_labels: NDArray[Any], codes: Codes, labels: NDArray[Any]
) -> float:
    """Return the mean average precision by Hamming distance."""
    rankings, _ = rank_codes(query_codes, query_labels, codes, labels)
    return mean(rankings.average_precision(harmonic_numbers(len(codes))))
