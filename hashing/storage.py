"""An encoder on disk: safetensors with a JSON header, nothing that could run.

The safetensors metadata holds one entry, `bitcell`: JSON with `format`, `method`, `params` and
`n_features`. The arrays are those the method names in `learned`.
"""

from __future__ import annotations

import hashlib
import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashing.atomic_file import replacing
from hashing.base import Hasher, NotFinite
from hashing.validation import InvalidInput, check_int

FORMAT = 1
KEY = "bitcell"


class BadEncoder(ValueError):
    """A file or bytes that do not hold an encoder; says why."""


def to_bytes(hasher: Hasher) -> bytes:
    """A fitted encoder as safetensors bytes."""
    from safetensors.numpy import save

    return save(_arrays(hasher), metadata={KEY: _header(hasher)})


def save_hasher(hasher: Hasher, path: str | PathLike[str]) -> None:
    """Write a fitted encoder to `path`, replacing what was there, all of it or nothing."""
    data = to_bytes(hasher)
    with replacing(Path(path)) as file:
        file.write(data)


def load_hasher(path: str | PathLike[str]) -> Hasher:
    """Read an encoder that `save` wrote.

    Raises
    ------
    BadEncoder
        A ValueError: not such a file, of a newer format, or of contents that do not fit together.
    """
    try:
        return from_bytes(Path(path).read_bytes())
    except BadEncoder as error:
        raise BadEncoder(f"{path}: {error}") from None


def from_bytes(data: bytes) -> Hasher:
    """The encoder in safetensors bytes; BadEncoder where there is none. Runs nothing from them."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError as error:
        raise BadEncoder(f"not an encoder, no safetensors file: {error}") from None
    header = _read_header(data)
    hasher = _build(header)
    n_features: Any = header.get("n_features")
    try:
        check_int("n_features", n_features, 1, 2**31)
        hasher.check_parameters()
    except InvalidInput as error:
        raise BadEncoder(str(error)) from None
    hasher.n_features_in_ = int(n_features)
    _set_arrays(hasher, arrays)
    return hasher


def fingerprint(hasher: Hasher) -> str:
    """SHA-256, in hex, of the header and of each array's name, shape and bytes."""
    digest = hashlib.sha256(_header(hasher).encode())
    for name, array in _arrays(hasher).items():
        digest.update(f"\n{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _header(hasher: Hasher) -> str:
    hasher.check_is_fitted()
    params = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in hasher.get_params().items()
    }
    header = {
        "format": FORMAT,
        "method": hasher.method,
        "params": params,
        "n_features": hasher.n_features_in_,
    }
    return json.dumps(header, sort_keys=True, allow_nan=False)


def _arrays(hasher: Hasher) -> dict[str, NDArray[np.float32]]:
    arrays = {name: getattr(hasher, name) for name in sorted(hasher.learned)}
    return {name: np.ascontiguousarray(array, "<f4") for name, array in arrays.items()}


def _read_header(data: bytes) -> dict[str, Any]:
    # safetensors' own reader of bytes drops the metadata; it has checked that this part is JSON.
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    try:
        header = json.loads(metadata[KEY])
    except (KeyError, ValueError, RecursionError):
        raise BadEncoder(f"no {KEY!r} header: not written by this project") from None
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise BadEncoder(f"the {KEY!r} header has no format number")
    if header["format"] > FORMAT:
        raise BadEncoder(f"format {header['format']} is newer than {FORMAT}, the newest known here")
    return header


def _build(header: dict[str, Any]) -> Hasher:
    from hashing import make_hasher

    params = header.get("params")
    if not isinstance(params, dict):
        raise BadEncoder("the header has no parameters")
    try:
        return make_hasher(str(header.get("method")), **params)
    except InvalidInput as error:
        raise BadEncoder(str(error)) from None


def _set_arrays(hasher: Hasher, arrays: dict[str, NDArray[Any]]) -> None:
    if set(arrays) != set(hasher.learned):
        raise BadEncoder(f"expected arrays {sorted(hasher.learned)}, got {sorted(arrays)}")
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise BadEncoder(f"{name} must be float32, got {array.dtype}")
        if not np.isfinite(array).all():
            raise BadEncoder(f"{name} holds values that are not finite")
        setattr(hasher, name, array)
    try:
        z = hasher._project(np.zeros((1, hasher.n_features_in_), np.float32))
    except (ValueError, IndexError, OverflowError, NotFinite) as error:
        raise BadEncoder(f"the arrays do not fit together: {error}") from None
    if z.shape != (1, hasher.n_bits):
        raise BadEncoder(f"the arrays give shape {z.shape}, the header says {hasher.n_bits} bits")
