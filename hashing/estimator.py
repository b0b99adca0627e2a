"""What makes a hasher a scikit-learn estimator: its parameters by name, and its tags."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Self

from hashing.validation import InvalidInput, suggestion


class Estimator:
    """The parameters of a constructor that stores them unchanged, under their names."""

    method: ClassVar[str]
    """The name of the method in `HASHERS`."""

    needs_labels: ClassVar[bool] = False
    """Whether `fit` needs `y`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters by name (scikit-learn's interface)."""
        return {name: getattr(self, name) for name in parameters(type(self))}

    def set_params(self, **params: Any) -> Self:
        """Set constructor parameters by name (scikit-learn's interface)."""
        check_parameter_names(type(self), params)
        for name, value in params.items():
            setattr(self, name, value)
        return self

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
