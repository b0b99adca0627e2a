"""The interface of every hash method, and the checks on its input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size, pack
from hashing.arrays import BLOCK, Matrix, NotFinite, finite, row_blocks
from hashing.atomic_file import atomic_write
from hashing.estimator import Estimator, column_names
from hashing.labels import Labels, as_targets, check_one_each
from hashing.shapes import Shape, check_shapes, count_values
from hashing.storage import EncoderFile
from hashing.validation import (
    LARGEST_FITTED,
    InvalidInput,
    as_descriptors,
    check_finite,
    check_int,
)

MAX_BITS = 4096
# Most numbers in an array of a block of rows that are projected together: it stays in the cache.
MAX_BLOCK_SIZE = 1 << 21
# A projection is computed again in float64 if it is closer to zero than NEAR_ZERO times the root
# mean square of all projections, or than CANCELLED times the terms that cancel in it (some 30
# roundings of float32).
NEAR_ZERO = 1e-4
CANCELLED = 4e-6


class NotFitted(ValueError, AttributeError):
    """A hasher is used before `fit`. scikit-learn's error has these two bases."""


class Hasher(Estimator, ABC):
    """Turns descriptors into binary codes.

    A method is a subclass. Its constructor has keyword parameters and stores them unchanged;
    `learned_shapes` names the arrays that it learns; `_fit` learns them; `_project` turns
    descriptors into real numbers whose sign is the bit. A hasher is a scikit-learn estimator:
    `clone` and `Pipeline` work.

    Parameters
    ----------
    n_bits : int
        Code length, 1 to 4,096.
    random_state : int
        Seed of all randomness in `fit`. The same data and seed give the same bits.
    """

    needs_torch: ClassVar[bool] = False
    """Whether `fit` needs torch. Encoding never does."""

    data_free: ClassVar[bool] = False
    """Whether `fit` uses only the dimension and the moments of `X`."""

    random_state: int

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, privileged: ArrayLike | None = None
    ) -> Self:
        """Learn the encoder from descriptors.

        Parameters
        ----------
        X : (n, d) array_like of finite numbers
        y : (n,) array_like of int, or (n, c) of 0 and 1, optional
            Labels; -1 means unlabelled. Items may have several labels: y then says which of c > 1
            classes each has, and a row of zeros means unlabelled. Methods that do not need labels
            ignore them.
        privileged : (n, p) array_like, optional
            Features that are known of these rows, but not of queries; NaN in the whole row where
            they are unknown. Only the trained nets use them.

        Returns
        -------
        self

        Raises
        ------
        InvalidInput
            A ValueError: a wrong shape, a value that is not finite (the message names its row), or
            a parameter out of its range.
        """
        return self._checked_fit(X, y, self._fit)

    def _checked_fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        learn: Callable[[NDArray[Any], Labels | None], None],
    ) -> Self:
        """Check parameters, descriptors and labels, call `learn` with them, check the result."""
        self.check_parameters()
        names = column_names(X)
        X = as_descriptors(X)
        if len(X) == 0:
            raise InvalidInput("fit needs at least one descriptor, got none")
        check_finite(X, LARGEST_FITTED)
        labels = None
        if y is not None:
            labels = as_targets(y, len(X))
            if self.needs_labels and not self.many_labels:
                check_one_each(labels, f"{self.method}, unlike ksh and sdh,")
        elif self.needs_labels:
            raise InvalidInput(f"{self.method} learns from labels: fit(X, y) needs y")
        # If this fit fails, the hasher is unfitted.
        vars(self).pop("n_features_in_", None)
        vars(self).pop("feature_names_in_", None)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                learn(X, labels)
            except NotFinite:
                raise _overflow("a hidden layer", X) from None
        for name in self.learned_shapes(X.shape[1]):
            if not np.isfinite(getattr(self, name)).all():
                raise _overflow(name, X)
        self.n_features_in_ = X.shape[1]
        if names is not None:
            self.feature_names_in_ = names
        return self

    def project(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return real projections, (n, d) to (n, n_bits) float32; a bit is set where z > 0."""
        X = self._check_queries(X)
        z = np.empty((len(X), self.n_bits), np.float32)
        self._project_into(z, X, lambda z: z)
        return z

    def encode(self, X: ArrayLike) -> Codes:
        """Return packed codes, (n, d) to (n, ceil(n_bits / 8)) uint8.

        The bits of a descriptor depend neither on the descriptors that are encoded with it nor on
        the number of threads; see `_project_into`.
        """
        X = self._check_queries(X)
        codes = np.empty((len(X), code_size(self.n_bits)), np.uint8)
        self._project_into(codes, X, pack)
        return codes

    def transform(self, X: ArrayLike) -> Any:
        """Return the bits as -1 and 1, (n, d) to (n, n_bits) int8, for use in pipelines.

        They are an array, or a table if `set_output` has chosen one.
        """
        return self._in_container(np.where(self.project(X) > 0, np.int8(1), np.int8(-1)), X)

    def fit_transform(
        self, X: ArrayLike, y: ArrayLike | None = None, privileged: ArrayLike | None = None
    ) -> Any:
        """Call `fit`, then `transform` the same descriptors."""
        return self.fit(X, y, privileged).transform(X)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted encoder to `path` as safetensors; on an error nothing changes there."""
        data = self.to_bytes()
        with atomic_write(Path(path)) as file:
            file.write(data)

    def to_bytes(self) -> bytes:
        """Return the bytes that `save` writes."""
        return self._encoder_file().to_bytes()

    def restore(self, n_features: int, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Make this hasher a fitted one, with the arrays of an encoder file.

        Parameters
        ----------
        n_features : int
            Dimension of the descriptors.
        arrays : mapping of str to float32 arrays

        Raises
        ------
        InvalidInput
            A parameter is out of its range, or `fit` with these parameters cannot give such
            arrays. Nothing is allocated for sizes that the arrays do not have.
        """
        self.check_parameters()
        shapes = self.learned_shapes(n_features)
        if set(arrays) != set(shapes):
            raise InvalidInput(f"expected arrays {sorted(shapes)}, got {sorted(arrays)!r:.200}")
        check_shapes(arrays, shapes)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise InvalidInput(f"{name} holds values that are not finite")
            setattr(self, name, array)
        self._check_learned(n_features)
        self.n_features_in_ = n_features

    @property
    def fingerprint(self) -> str:
        """SHA-256 of header and arrays. Encoders with equal fingerprints give equal codes."""
        return self._encoder_file().fingerprint

    @property
    def n_learned(self) -> int:
        """How many numbers the fitted hasher has learned."""
        self.check_is_fitted()
        return sum(getattr(self, name).size for name in self.learned_shapes(self.n_features_in_))

    def learned_values(self, n_features: int) -> int:
        """Return how many numbers `fit` learns from descriptors of a dimension.

        It is an upper bound if the data decides a size, such as the number of anchors.
        """
        return count_values(self.learned_shapes(n_features))

    @abstractmethod
    def learned_shapes(self, n_features: int) -> dict[str, Shape]:
        """Return the shapes of the float32 arrays that `fit` sets, by attribute name.

        Together with the parameters these arrays are the encoder. The shapes follow from the
        parameters and the dimension; `UpTo` stands for a size that the data decides.
        """

    @abstractmethod
    def _fit(self, X: NDArray[Any], y: Labels | None) -> None:
        """Set every array in `learned_shapes`. X is checked: (n, d), finite, n >= 1.

        y is a matrix only if the method has `many_labels`, or does not need labels.
        """

    @abstractmethod
    def _project(self, X: Matrix) -> Matrix:
        """Project (n, d) to (n, n_bits) in the dtype of X.

        Return a new array, which the caller may overwrite. A row with NaN or infinity must give
        one in its projections, or raise `NotFinite`. A last nonlinearity that keeps every sign is
        left out: asymmetric distances need to know how far from zero a projection is.
        """

    def _cancellation_scale(self) -> float:
        """Return how large the terms are that cancel when a projection is near zero.

        Their float32 rounding decides which projections are too close to zero. The default, zero,
        is for methods in which no large terms cancel.
        """
        return 0.0

    def _row_size(self) -> int:
        """Return the length of the longest row of numbers that `_project` computes of a row of X.

        Fewer rows are projected together if it is large, which bounds the memory.
        """
        return self.n_bits

    def check_parameters(self) -> None:
        """Raise InvalidInput for a parameter out of its range."""
        check_int("n_bits", self.n_bits, 1, MAX_BITS)
        check_int("random_state", self.random_state, 0, 2**63 - 1)

    def _check_learned(self, n_features: int) -> None:
        """Raise InvalidInput for learned values that `fit` cannot give. Shapes are checked."""

    def _encoder_file(self) -> EncoderFile:
        self.check_is_fitted()
        arrays = {name: getattr(self, name) for name in self.learned_shapes(self.n_features_in_)}
        return EncoderFile(self.method, self.saved_params(), self.n_features_in_, arrays)

    def _check_queries(self, X: ArrayLike) -> NDArray[Any]:
        self.check_is_fitted()
        self._check_names(column_names(X))
        return as_descriptors(X, self.n_features_in_)

    def _project_into(
        self, out: NDArray[Any], X: NDArray[Any], convert: Callable[[Matrix], NDArray[Any]]
    ) -> None:
        """Write `convert` of the projections of X to `out`, a block of rows at a time.

        Projections are computed in float32, whose matrix products round differently with the
        number of rows and threads. Where that could change a bit, because a projection is close
        to zero, its row is projected again in float64.
        """
        cancelled = CANCELLED * self._cancellation_scale()
        uncertain = [np.empty(0, np.intp)]
        row_size = max(self.n_features_in_, self.n_bits, self._row_size())
        n_rows = max(1, min(BLOCK, MAX_BLOCK_SIZE // row_size))
        for rows in row_blocks(X, n_rows):
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
            uncertain.append(rows.start + np.unique(near // self.n_bits))
            out[rows] = convert(z)
        # All rows at once, because starting a product costs more than a few rows of it.
        again = np.concatenate(uncertain)
        for part in row_blocks(again, n_rows):
            places = again[part]
            exact = X[places].astype(np.float32).astype(np.float64)
            out[places] = convert(self._project(exact))

    def check_is_fitted(self) -> None:
        """Raise NotFitted if `fit` has not been called."""
        if not hasattr(self, "n_features_in_"):
            raise NotFitted(f"this {self.method} has not been fitted: call fit(X) first")


def _overflow(what: str, X: NDArray[Any]) -> InvalidInput:
    return InvalidInput(
        f"the descriptors overflow float32 ({what} is not finite): their largest absolute value is "
        f"{np.abs(X.astype(np.float64)).max():.3g}; scale them"
    )
