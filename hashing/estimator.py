"""What makes a hasher a scikit-learn estimator: its parameters by name, and its tags."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, Self

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

    _metadata_request: Any

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
