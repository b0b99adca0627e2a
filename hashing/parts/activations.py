"""The activations ρ of the nets; each overwrites its float32 or float64 argument."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hashing.arrays import Matrix
from hashing.validation import InvalidInput, check_number


def _relu(v: Matrix) -> Matrix:
    return np.maximum(v, 0, out=v)


def _tanh(v: Matrix) -> Matrix:
    return np.tanh(v, out=v)


def _sigmoid(v: Matrix) -> Matrix:
    # By tanh, which does not overflow as exp does.
    v *= 0.5
    np.tanh(v, out=v)
    v += 1
    v *= 0.5
    return v


ACTIVATIONS: dict[str, Callable[[Matrix], Matrix]] = {
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
}
TRUNCATED = "truncated-linear"
NAMES = (TRUNCATED, *ACTIVATIONS)


def activation(name: str, a: float = -1.0, b: float = 1.0) -> Callable[[Matrix], Matrix]:
    """Return the function ρ with this name; it overwrites its argument and returns it.

    Parameters
    ----------
    name : {"truncated-linear", "relu", "tanh", "sigmoid"}
        Truncated linear is min(max(v, a), b).
    a, b : float
        The interval of the truncated linear function, a <= 0 < b; not used by the others.

    Raises
    ------
    InvalidInput
        There is no such name, or the interval would make the bit constant around zero.
    """
    check_number("a", a)
    check_number("b", b)
    if not isinstance(name, str) or name not in NAMES:
        raise InvalidInput(f"activation must be one of {', '.join(NAMES)}; got {name!r:.80}")
    if name != TRUNCATED:
        return ACTIVATIONS[name]
    if not a <= 0 < b:
        raise InvalidInput(f"{TRUNCATED} needs a <= 0 < b; got a={a}, b={b}")
    return lambda v: np.clip(v, a, b, out=v)
