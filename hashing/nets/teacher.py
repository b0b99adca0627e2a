"""The teacher of the nets: class probabilities of all rows from the labels of a few."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import row_blocks
from hashing.labels import as_targets, check_one_each
from hashing.nets.torch_check import check_torch
from hashing.nets.views import View, as_mirror, default_noise, default_power, scaled, standardised
from hashing.parts.linear import MAX_HIDDEN, Layer
from hashing.parts.pairs import labelled
from hashing.progress import stage
from hashing.validation import (
    LARGEST_FITTED,
    InvalidInput,
    as_descriptors,
    as_privileged,
    check_finite,
    check_int,
    check_number,
    check_permutation,
)

ACTIVITY = "the teacher learns the classes"
PRIVILEGED_NOISE = 0.5
"""Least noise by default of the classifiers that see privileged features."""
LEAST_NOISE = 0.3
"""Least noise by default, whatever the number of rows."""


MAX_STEPS = 10**6
MAX_MIRROR = 1 << 20


@dataclass
class Teacher:
    """Class probabilities of all rows, from the labels of a few, for nets to learn from.

    Nets of one training set learn from the same teacher, whatever their code length. `fit` of a
    net makes its own; to share one among several, make it with `new_teacher` of a net, fit it, and
    pass it to `fit` of each::

        teacher = nets[0].new_teacher().fit(X, y, privileged)
        for net in nets:
            net.fit(X, y, teacher=teacher)

    The first guess is kernel ridge regression on the labelled rows, on descriptors and on
    privileged features, whose answers are averaged. Then several classifiers are trained on all
    rows by AdamW, with mirroring, mixup and Gaussian noise. The first sees descriptors only and has
    one hidden layer, with which a net of two layers then starts. Without privileged features there
    is a second with two hidden layers. With them there are three others: one sees descriptor and
    privileged features side by side, and two see the privileged features alone, with one hidden
    layer and with two. The targets of labelled rows are their labels. Those of other rows are the
    probabilities that all classifiers together, with averaged weights and over a row and its
    mirror image, gave at the beginning of the round, balanced to the class frequencies of the
    labels and sharpened. In this way rows without a label show where the classes part, and the
    first classifier learns what only the privileged features tell. A row whose privileged features
    are unknown is left out by the classifiers that need them.

    Parameters
    ----------
    hidden : int
        Units of the first classifier's hidden layer.
    power, mirror, privileged_mirror
        As in `hashing.nets.net.Net2`.
    noise : float, optional
        Standard deviation of the noise; by default that of `hashing.nets.views.default_noise`, at
        least 0.3, and at least 0.5 for the classifiers that see privileged features.
    steps : int
        Gradient steps of each classifier, of up to 512 rows.
    random_state : int

    Attributes
    ----------
    probabilities_ : (n, c) float32
        Of each class, for each row; 0 and 1 where the label is known.
    hidden_layer_ : pair of arrays
        Weights and bias of the first classifier's hidden layer, for standardised descriptors.
    labels_ : (n,) int64
        What `fit` was given.
    digest_ : bytes
        SHA-256 of the descriptors, by which a net knows that it has the same.
    seconds_ : float
        How long `fit` took.

    References
    ----------
    V. Vapnik, A. Vashist, "A new learning paradigm: Learning using privileged information", Neural
    Networks 22, 2009. S. Gupta, J. Hoffman, J. Malik, "Cross Modal Distillation for Supervision
    Transfer", CVPR 2016. Q. Xie, M.-T. Luong, E. Hovy, Q. V. Le, "Self-training with Noisy Student
    improves ImageNet classification", CVPR 2020 (arXiv:1911.04252): soft, balanced targets from a
    teacher without noise for a student with noise. Deviations: the student continues from its own
    weights, and the targets are the mean over several classifiers.
    """

    hidden: int = 2048
    power: float | None = None
    mirror: Sequence[int] | None = None
    privileged_mirror: Sequence[int] | None = None
    noise: float | None = None
    steps: int = 5000
    random_state: int = 0

    probabilities_: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    hidden_layer_: Layer = field(init=False, repr=False, compare=False)
    labels_: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    digest_: bytes = field(init=False, repr=False, compare=False)
    seconds_: float = field(init=False, repr=False, compare=False)

    def fit(self, X: ArrayLike, y: ArrayLike, privileged: ArrayLike | None = None) -> Self:
        """Learn the classes of all rows.

        Parameters
        ----------
        X : (n, d) array_like of finite numbers
            Descriptors.
        y : (n,) array_like of int
            Labels of two classes or more; -1 for a row without a label. The class frequencies of
            the labelled rows are taken for those of all rows.
        privileged : (n, p) array_like, optional
            Features that are known of these rows, but not of queries; NaN in the whole row where
            they are unknown. They are centred and divided by one number, so that columns keep
            their relative sizes.

        Raises
        ------
        InvalidInput
        """
        self.check_parameters()
        X = as_descriptors(X)
        check_finite(X, LARGEST_FITTED)
        check_mirror("mirror", self.mirror, X.shape[1], "dimensions")
        labels = as_targets(y, len(X))
        check_one_each(labels, "the teacher of a net")
        return self._fit(X, cast("NDArray[np.int64]", labels), privileged)

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        check_int("hidden", self.hidden, 1, MAX_HIDDEN)
        check_int("steps", self.steps, 1, MAX_STEPS)
        check_int("random_state", self.random_state, 0, 2**63 - 1)
        if self.power is not None:
            check_number("power", self.power)
            if not 0 < self.power <= 1:
                raise InvalidInput(f"power must be above 0 and at most 1, got {self.power}")
        if self.noise is not None:
            check_number("noise", self.noise)
            if self.noise < 0:
                raise InvalidInput(f"noise must be 0 or more, got {self.noise}")
        for name in ("mirror", "privileged_mirror"):
            check_permutation(name, getattr(self, name), MAX_MIRROR)

    def _fit(self, X: NDArray[Any], y: NDArray[np.int64], privileged: ArrayLike | None) -> Self:
        start = time.perf_counter()
        rows = labelled(y)
        known, features = self._privileged(privileged, len(X))
        check_torch("a teacher")
        from hashing.nets.self_training import self_train

        values, _, _ = standardised(X, self.power or default_power(X))
        noise = default_noise(values, LEAST_NOISE) if self.noise is None else self.noise
        classes, of_row = np.unique(y[rows], return_inverse=True)
        with stage(0, self.steps, ACTIVITY):
            self.probabilities_, self.hidden_layer_ = self_train(
                View(values, as_mirror(self.mirror)),
                features,
                known,
                rows,
                np.eye(len(classes), dtype=np.float32)[of_row],
                hidden=self.hidden,
                noise=noise,
                privileged_noise=max(noise, PRIVILEGED_NOISE) if self.noise is None else noise,
                steps=self.steps,
                random_state=self.random_state,
            )
        self.labels_, self.digest_ = y, digest(X)
        self.seconds_ = time.perf_counter() - start
        return self

    def _privileged(
        self, privileged: ArrayLike | None, n: int
    ) -> tuple[NDArray[np.intp] | None, View | None]:
        """Return the rows whose privileged features are known (None: all), and these features."""
        if privileged is None:
            return None, None
        F = as_privileged(privileged, n)
        check_mirror("privileged_mirror", self.privileged_mirror, F.shape[1], "privileged features")
        known = np.flatnonzero(~np.isnan(F[:, 0]))
        if not len(known):
            return None, None
        some = len(known) < n
        values = scaled(F[known] if some else F)
        return known if some else None, View(values, as_mirror(self.privileged_mirror))


def check_mirror(name: str, mirror: Sequence[int] | None, n: int, what: str) -> None:
    """Raise InvalidInput unless the order of mirror images is None or has n columns."""
    if mirror is not None and len(mirror) != n:
        raise InvalidInput(
            f"{name} must name each of the {n} {what} once, got {len(mirror)} of them"
        )


def digest(X: NDArray[Any]) -> bytes:
    """Return the SHA-256 of descriptors, with their shape."""
    found = hashlib.sha256(repr(X.shape).encode())
    for rows in row_blocks(X):
        found.update(np.ascontiguousarray(X[rows], np.float64).data)
    return found.digest()
