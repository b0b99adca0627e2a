"""What makes a hasher a scikit-learn estimator: its parameters by name, and its tags."""

from __future__ import annotations

import copy
import inspect
import sys
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashing.validation import InvalidInput, suggestion


class Estimator:
    """The parameters of a constructor that stores them unchanged, under their names."""

    method: ClassVar[str]
    """The name of the method in `HASHERS`."""

    needs_labels: ClassVar[bool] = False
    """Whether `fit` needs `y`."""

    many_labels: ClassVar[bool] = False
    """Whether `fit` learns from items with several labels."""

    later_parameters: ClassVar[frozenset[str]] = frozenset()
    """Parameters that encoder files of earlier versions lack."""

    n_bits: int
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    """The names of the columns that `fit` has seen, if they had any."""

    _metadata_request: Any
    _sklearn_output_config: dict[str, str]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters by name (scikit-learn's interface)."""
        return {name: getattr(self, name) for name in parameters(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Set constructor parameters by name (scikit-learn's interface)."""
        check_parameter_names(type(self), params)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def saved_params(self) -> dict[str, Any]:
        """Return the parameters that an encoder file holds.

        Those of `later_parameters` are left out at their defaults, so that encoders of earlier
        versions keep their fingerprints.
        """
        known = parameters(type(self))
        return {
            name: value
            for name, value in self.get_params().items()
            if name not in self.later_parameters or value != known[name].default
        }

    def set_fit_request(self, *, privileged: bool | str | None) -> Self:
        """State whether a meta-estimator is to pass `privileged` to `fit` (scikit-learn's routing).

        Parameters
        ----------
        privileged : bool, str or None
            True: pass it if it is given. False: never pass it. A name: pass what is given by that
            name. None: raise an error if it is given.
        """
        request = self.get_metadata_routing()
        request.fit.add_request(param="privileged", alias=privileged)
        self._metadata_request = request
        return self

    def get_metadata_routing(self) -> Any:
        """Return which metadata `fit` takes (scikit-learn's interface)."""
        # Only scikit-learn and `set_fit_request` call this.
        from sklearn.utils.metadata_routing import MetadataRequest

        if hasattr(self, "_metadata_request"):
            return copy.deepcopy(self._metadata_request)
        request = MetadataRequest(owner=type(self).__name__)
        request.fit.add_request(param="privileged", alias=None)
        return request

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return a name for each bit, such as `lsh_0` (scikit-learn's interface).

        Parameters
        ----------
        input_features : (d,) array_like of str, optional
            The names of the dimensions, which are only checked.
        """
        self.check_is_fitted()
        if input_features is not None:
            given = np.asarray(input_features, object)
            self._check_names(given)
            if given.shape != (self.n_features_in_,):
                raise InvalidInput(
                    "input_features should have length equal to number of features, "
                    f"{self.n_features_in_}; got shape {given.shape}"
                )
        return np.array([f"{self.method}_{i}" for i in range(self.n_bits)], object)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose what `transform` returns (scikit-learn's interface).

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, optional
            An array, or a table; None leaves it as it is.
        """
        if transform not in (None, "default", "pandas", "polars"):
            raise InvalidInput(
                f"transform must be default, pandas or polars, got {transform!r:.80}"
            )
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def check_is_fitted(self) -> None:
        """Raise an error if `fit` has not been called."""
        raise NotImplementedError

    def _in_container(self, bits: NDArray[np.int8], X: object) -> Any:
        """Return the bits of X in what `set_output` or scikit-learn's configuration says."""
        config: dict[str, str] = getattr(self, "_sklearn_output_config", {})
        if "transform" not in config and "sklearn" in sys.modules:
            from sklearn import get_config

            config = {"transform": get_config()["transform_output"]}
        container = config.get("transform", "default")
        if container == "pandas":
            import pandas as pd

            index = X.index if isinstance(X, pd.DataFrame) else None
            return pd.DataFrame(bits, index=index, columns=self.get_feature_names_out())
        if container == "polars":
            import polars as pl

            return pl.DataFrame(bits, schema=self.get_feature_names_out().tolist(), orient="row")
        return bits

    def _check_names(self, names: NDArray[np.object_] | None) -> None:
        """Raise InvalidInput for names of columns that are not those of `fit`."""
        known = getattr(self, "feature_names_in_", None)
        if names is not None and known is not None and not np.array_equal(names, known):
            raise InvalidInput(
                "the feature names should match those that were passed during fit: input_features "
                "is not equal to feature_names_in_, or the columns have other names or another "
                "order"
            )

    def __sklearn_tags__(self) -> Any:
        # Only scikit-learn calls this, so it is loaded already.
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


def column_names(X: object) -> NDArray[np.object_] | None:
    """Return the names of the columns of a table; None if they are not all strings."""
    names = np.asarray(getattr(X, "columns", ()), object)
    return names if names.size and all(isinstance(name, str) for name in names) else None


def parameters(cls: type[Estimator]) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters of a method, by name."""
    return dict(inspect.signature(cls).parameters)


def check_parameter_names(cls: type[Estimator], params: dict[str, Any]) -> None:
    """Raise InvalidInput for a parameter that the method does not have."""
    known = parameters(cls)
    for name in params:
        if name not in known:
            raise InvalidInput(
                f"{cls.method} has no parameter {name!r:.80}{suggestion(name, known)}; it has "
                f"{', '.join(known)}"
            )
