"""The interface of every hash method, and the checks on what goes into one."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size, pack
from hashing.validation import (
    BLOCK,
    InvalidInput,
    as_descriptors,
    as_labels,
    check_finite,
    check_int,
)

Matrix = NDArray[np.float32] | NDArray[np.float64]

MAX_BITS = 4096
# Of what can be fitted: squares of it, summed, stay within float32.
LARGEST = 1e15
# A projection this close to zero, relative to the others, is settled in float64;
NEAR_ZERO = 1e-4
# so is one this close relative to the terms that cancel in it, some 30 roundings of float32.
CANCELLED = 4e-6


class NotFitted(ValueError, AttributeError):
    """A hasher was asked for codes before it was fitted. Its bases are scikit-learn's choice."""


class Hasher(ABC):
    """Descriptors to binary codes.

    A method is a subclass: keyword parameters in its constructor, stored untouched; `_fit`, which
    learns the arrays named in `learned`; `_project`, which turns descriptors into reals whose
    sign is the bit. It follows scikit-learn's estimators, so `clone` and `Pipeline` work.

    Parameters
    ----------
    n_bits : int
        Code length, 1 to 4,096.
    random_state : int
        Seed of all that is random in `fit`. The same data and seed give the same bits.
    """

    method: ClassVar[str]
    """The name of the method in `HASHERS`."""

    learned: ClassVar[tuple[str, ...]]
    """Attributes that `fit` sets: float32 arrays. With the parameters they are the encoder."""

    needs_labels: ClassVar[bool] = False
    """Whether `fit` needs `y`."""

    needs_torch: ClassVar[bool] = False
    """Whether `fit` needs torch; encoding never does."""

    data_free: ClassVar[bool] = False
    """Whether `fit` needs `X` for no more than its dimension and moments."""

    n_bits: int
    random_state: int
    n_features_in_: int

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the encoder from descriptors.

        Parameters
        ----------
        X : (n, d) array_like of finite numbers
        y : (n,) array_like of int, optional
            Labels; -1 means unlabelled. Ignored by methods that need none.

        Returns
        -------
        self

        Raises
        ------
        InvalidInput
            A ValueError: shape, a value that is not finite (says which row), a parameter.
        """
        self.check_parameters()
        X = as_descriptors(X)
        if len(X) == 0:
            raise InvalidInput("fit needs at least one descriptor, got none")
        check_finite(X, LARGEST)
        labels = None
        if y is not None:
            labels = as_labels(y, len(X))
        elif self.needs_labels:
            raise InvalidInput(f"{self.method} learns from labels: fit(X, y) needs y")
        if hasattr(self, "n_features_in_"):
            del self.n_features_in_  # A fit that fails leaves an unfitted hasher.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._fit(X, labels)
        for name in self.learned:
            if not np.isfinite(getattr(self, name)).all():
                raise InvalidInput(
                    f"the descriptors lead beyond float32 ({name} is not finite): they go up to "
                    f"{np.abs(X.astype(np.float64)).max():.3g}; scale them"
                )
        self.n_features_in_ = X.shape[1]
        return self

    def project(self, X: ArrayLike) -> NDArray[np.float32]:
        """Real-valued projections, (n, d) to (n, n_bits) float32; a bit is set where z > 0."""
        X = self._check_queries(X)
        z = np.empty((len(X), self.n_bits), np.float32)
        self._project_into(z, X, self._finish)
        return z

    def encode(self, X: ArrayLike) -> Codes:
        """Packed codes, (n, d) to (n, ceil(n_bits / 8)) uint8.

        The bits of a descriptor do not depend on the others it is encoded with, nor on the number
        of threads: see `_project_into`.
        """
        X = self._check_queries(X)
        codes = np.empty((len(X), code_size(self.n_bits)), np.uint8)
        self._project_into(codes, X, pack)
        return codes

    def transform(self, X: ArrayLike) -> NDArray[np.int8]:
        """The bits as -1 and 1, (n, d) to (n, n_bits) int8, for use in pipelines."""
        return np.where(self.project(X) > 0, np.int8(1), np.int8(-1))

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.int8]:
        """`fit`, then `transform` of the same descriptors."""
        return self.fit(X, y).transform(X)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted encoder as safetensors, all of it or nothing."""
        from hashing.storage import save_hasher

        save_hasher(self, path)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the header and arrays: two encoders with the same one give the same codes."""
        from hashing.storage import fingerprint

        return fingerprint(self)

    @abstractmethod
    def _fit(self, X: NDArray[Any], y: NDArray[np.int64] | None) -> None:
        """Set every attribute in `learned`. X is checked: (n, d), finite, n >= 1."""

    @abstractmethod
    def _project(self, X: Matrix) -> Matrix:
        """(n, d) to (n, n_bits) in the dtype of X; a fresh array, the caller may write to it.

        A row with NaN or infinity must give one in its projections, or raise `NotFinite`.
        A last nonlinearity that keeps every sign belongs into `_finish`.
        """

    def _finish(self, z: Matrix) -> Matrix:
        """What is left for `project` alone: a function that keeps every sign. May write to z."""
        return z

    def _cancelled(self) -> float:
        """How large the terms are that cancel where a projection is near zero.

        Their rounding in float32 decides how near is too near. Zero where nothing of note does.
        """
        return 0.0

    def learned_values(self, d: int) -> int:
        """About how many numbers `fit` on descriptors of dimension d would learn."""
        return self.n_bits * (d + 1)

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        check_int("n_bits", self.n_bits, 1, MAX_BITS)
        check_int("random_state", self.random_state, 0, 2**63 - 1)

    def _check_queries(self, X: ArrayLike) -> NDArray[Any]:
        self.check_is_fitted()
        return as_descriptors(X, self.n_features_in_)

    def _project_into(
        self, out: NDArray[Any], X: NDArray[Any], finish: Callable[[Matrix], NDArray[Any]]
    ) -> None:
        """Project block by block in float32, settle what float32 cannot, and keep `finish` of it.

        A float32 matrix product rounds differently with the number of rows and of threads. Where
        that could decide a bit, because z is that near to zero, the row is projected in float64.
        """
        cancelled = CANCELLED * self._cancelled()
        unsettled = [np.empty(0, np.intp)]
        for start in range(0, len(X), BLOCK):
            rows = slice(start, min(start + BLOCK, len(X)))
            with np.errstate(over="ignore", invalid="ignore"):
                block = np.asarray(X[rows], np.float32)
                try:
                    z = finite(self._project(block))
                except NotFinite:
                    check_finite(X)
                    raise InvalidInput(
                        "the projections overflow float32: the largest value is "
                        f"{np.abs(X[rows]).max():.3g}; scale the descriptors down"
                    ) from None
                square = float(np.vdot(z, z))
                spread = np.sqrt(square / z.size) if square < np.inf else float(np.abs(z).max())
            # A numpy float64 here would turn the whole comparison into float64.
            near = np.flatnonzero(np.abs(z) <= float(NEAR_ZERO * spread + cancelled))
            unsettled.append(start + np.unique(near // self.n_bits))
            out[rows] = finish(z)
        # All at once: a small product costs little more than its start.
        again = np.concatenate(unsettled)
        for start in range(0, len(again), BLOCK):
            places = again[start : start + BLOCK]
            exact = X[places].astype(np.float32).astype(np.float64)
            out[places] = finish(self._project(exact))

    def check_is_fitted(self) -> None:
        """Raise NotFitted where `fit` has not been called."""
        if not hasattr(self, "n_features_in_"):
            raise NotFitted(f"this {self.method} has not been fitted: call fit(X) first")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters, by name (scikit-learn's interface)."""
        return {name: getattr(self, name) for name in parameters(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Set constructor parameters by name (scikit-learn's interface)."""
        check_parameter_names(type(self), params)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        # Asked for by scikit-learn alone, so it is loaded already.
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=self.needs_labels),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            requires_fit=True,
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({shown})"


class NotFinite(Exception):
    """Raised by a `_project` that would hide a NaN or infinity; turned into InvalidInput."""


def finite(z: Matrix) -> Matrix:
    """`z`, or NotFinite where it holds NaN or infinity."""
    # One pass over finite numbers of moderate size; the second is for those whose squares overflow.
    if not np.isfinite(np.vdot(z, z)) and not np.isfinite(z).all():
        raise NotFinite
    return z


def parameters(cls: type[Hasher]) -> dict[str, inspect.Parameter]:
    """The constructor's parameters of a method, by name."""
    return dict(inspect.signature(cls).parameters)


def check_parameter_names(cls: type[Hasher], params: dict[str, Any]) -> None:
    """Raise InvalidInput for a parameter that the method does not have."""
    known = parameters(cls)
    for name in params:
        if name not in known:
            raise InvalidInput(f"{cls.method} has no parameter {name!r}; it has {', '.join(known)}")
