"""What the trained nets share: their parameters, their teacher and their training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.arrays import Matrix
from hashing.base import Hasher
from hashing.labels import Labels
from hashing.nets.teacher import ACTIVITY, MAX_STEPS, Teacher, check_mirror, digest
from hashing.nets.torch_check import check_torch
from hashing.nets.views import (
    View,
    as_mirror,
    default_noise,
    default_power,
    for_raw_rows,
    raise_to_power,
    standardised,
)
from hashing.parts.linear import Layer
from hashing.parts.pairs import labelled
from hashing.progress import stage
from hashing.validation import (
    InvalidInput,
    check_int,
)

LEAST_NOISE = 0.1
"""Least noise by default, whatever the number of rows."""


class TrainedNet(Hasher):
    """The parameters and the training that both nets share.

    Attributes
    ----------
    power_ : (1,) float32
        The exponent that `fit` used.
    """

    needs_labels: ClassVar[bool] = True
    needs_torch: ClassVar[bool] = True
    two_layers: ClassVar[bool]
    later_parameters: ClassVar[frozenset[str]] = frozenset({"privileged_mirror"})

    power_: NDArray[np.float32]

    def __init__(
        self,
        n_bits: int = 64,
        *,
        hidden: int = 2048,
        power: float | None = None,
        mirror: Sequence[int] | None = None,
        privileged_mirror: Sequence[int] | None = None,
        noise: float | None = None,
        teacher_steps: int = 5000,
        steps: int = 5000,
        random_state: int = 0,
    ) -> None:
        self.n_bits = n_bits
        self.hidden = hidden
        self.power = power
        self.mirror = mirror
        self.privileged_mirror = privileged_mirror
        self.noise = noise
        self.teacher_steps = teacher_steps
        self.steps = steps
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        privileged: ArrayLike | None = None,
        *,
        teacher: Teacher | None = None,
    ) -> Self:
        """Learn the encoder from descriptors.

        Parameters
        ----------
        X : (n, d) array_like of finite numbers
        y : (n,) array_like of int
            Labels of two classes or more; -1 means unlabelled.
        privileged : (n, p) array_like, optional
            Features that are known of these rows, but not of queries; NaN in the whole row where
            they are unknown. Only the teacher sees them. They are centred and divided by one
            number, so that columns keep their relative sizes: scale columns of different units
            before.
        teacher : Teacher, optional
            One that was made by `new_teacher` of a net with the same parameters, and fitted to the
            same X, y and privileged features, which are then not needed here. By default `fit`
            trains one.

        Returns
        -------
        self

        Raises
        ------
        InvalidInput
            As `Hasher.fit`; or the teacher was not fitted, or to other data or with other
            parameters.
        """
        return self._checked_fit(X, y, partial(self._fit, privileged=privileged, teacher=teacher))

    def new_teacher(self) -> Teacher:
        """Return a teacher, not yet fitted, with the parameters of this net."""
        return Teacher(
            hidden=self.hidden,
            power=self.power,
            mirror=self.mirror,
            privileged_mirror=self.privileged_mirror,
            noise=self.noise,
            steps=self.teacher_steps,
            random_state=self.random_state,
        )

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        super().check_parameters()
        for name in ("steps", "teacher_steps"):
            check_int(name, getattr(self, name), 1, MAX_STEPS)
        self.new_teacher().check_parameters()

    def _check_learned(self, n_features: int) -> None:
        super()._check_learned(n_features)
        check_mirror("mirror", self.mirror, n_features, "dimensions")
        if not 0 <= self.power_.item() <= 1:
            raise InvalidInput(f"power_ must be from 0 to 1, got {self.power_.item()}")
        if self.power is not None and self.power_.item() != np.float32(self.power):
            raise InvalidInput(f"power_ must be the power {self.power}, got {self.power_.item()}")

    @abstractmethod
    def _set_layers(self, layers: list[Layer], shift: NDArray[np.float64]) -> None:
        """Set the learned arrays.

        Parameters
        ----------
        layers : list of Layer
            For descriptors raised to the power; the first layer includes the standardisation.
        shift : (d,) float64
            What the standardisation subtracts.
        """

    def _fit(
        self,
        X: NDArray[Any],
        y: Labels | None,
        privileged: ArrayLike | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        # `needs_labels` without `many_labels`: `fit` has refused anything else.
        y = cast("NDArray[np.int64]", y)
        labelled(y)
        check_mirror("mirror", self.mirror, X.shape[1], "dimensions")
        check_torch(self.method)
        from hashing.nets import ranking_loss

        power = self.power or default_power(X)
        self.power_ = np.array([power], np.float32)
        teacher_steps = 0 if teacher is not None else self.teacher_steps
        total = teacher_steps + self.steps
        if teacher is None:
            with stage(0, total, ACTIVITY):
                teacher = self.new_teacher().fit(X, y, privileged)
        else:
            self._check_teacher(teacher, X, y, privileged)
        values, shift, divisor = standardised(X, power)
        with stage(teacher_steps, total, "the net learns the codes"):
            layers = ranking_loss.train(
                View(values, as_mirror(self.mirror)),
                teacher.probabilities_,
                self.n_bits,
                teacher.hidden_layer_ if self.two_layers else None,
                noise=default_noise(values, LEAST_NOISE) if self.noise is None else self.noise,
                steps=self.steps,
                random_state=self.random_state,
            )
        self._set_layers(for_raw_rows(layers, shift, divisor), shift)

    def _check_teacher(
        self,
        teacher: Teacher,
        X: NDArray[Any],
        y: NDArray[np.int64],
        privileged: ArrayLike | None,
    ) -> None:
        if privileged is not None:
            raise InvalidInput(
                "privileged features go to `fit` of the teacher, which has been fitted already"
            )
        wanted = self.new_teacher()
        for parameter in fields(wanted):
            if not parameter.compare:
                continue
            own, other = (getattr(one, parameter.name) for one in (wanted, teacher))
            if own != other:
                raise InvalidInput(
                    f"the teacher must have the parameters of the net: its {parameter.name} is "
                    f"{other!r:.50}, that of the net {own!r:.50}"
                )
        if not hasattr(teacher, "labels_"):
            raise InvalidInput("the teacher has not been fitted: call teacher.fit(X, y) first")
        if teacher.digest_ != digest(X) or not np.array_equal(teacher.labels_, y):
            raise InvalidInput("the teacher was fitted to other descriptors or labels than these")

    def _raise_to_power(self, X: Matrix) -> Matrix:
        """Return sign(x)·|x|^power in the dtype of X; X itself if the power is 1."""
        return raise_to_power(X, self.power_.item())
