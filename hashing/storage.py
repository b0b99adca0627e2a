"""The format of encoder files: safetensors with a JSON header, and nothing that could be run.

The safetensors metadata has one entry, `bitcell`: a JSON object with `format`, `method`, `params`
and `n_features`. The tensors are the learned arrays, all float32. This module knows only
the format; `hashing.registry` makes a hasher from it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from hashing.validation import InvalidInput, check_int

FORMAT = 1
KEY = "bitcell"
MAX_FEATURES = 2**31


class BadEncoder(ValueError):
    """The bytes or the file are not a valid encoder; the message says why."""


@dataclass(frozen=True)
class EncoderFile:
    """The contents of an encoder file.

    Attributes
    ----------
    method : str
    params : dict
        The constructor's parameters, JSON values.
    n_features : int
        Dimension of the descriptors, 1 to 2³¹.
    arrays : dict of str to float32 arrays
        Neither names nor shapes are checked here.
    """

    method: str
    params: dict[str, Any]
    n_features: int
    arrays: dict[str, NDArray[np.float32]]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of a file without running anything in them.

        Raises
        ------
        BadEncoder
            Not safetensors, no `bitcell` header, a newer format, or arrays that are not float32.
        """
        try:
            tensors = deserialize(data)  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise BadEncoder(f"not an encoder: no safetensors file ({error})") from None
        header = _read_header(data)
        arrays = {name: _read_array(name, **tensor) for name, tensor in tensors}
        return cls(header["method"], header["params"], header["n_features"], arrays)

    def to_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return save(self._ordered_arrays(), metadata={KEY: self._header()})

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the header and of each array's name, shape and bytes."""
        digest = hashlib.sha256(self._header().encode())
        for name, array in self._ordered_arrays().items():
            digest.update(f"\n{name} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def _header(self) -> str:
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.params.items()
        }
        header = {
            "format": FORMAT,
            "method": self.method,
            "params": params,
            "n_features": self.n_features,
        }
        return json.dumps(header, sort_keys=True, allow_nan=False)

    def _ordered_arrays(self) -> dict[str, NDArray[np.float32]]:
        ordered = sorted(self.arrays.items())
        return {name: np.ascontiguousarray(array, "<f4") for name, array in ordered}


def _read_header(data: bytes) -> dict[str, Any]:
    # `deserialize` drops the metadata, but it has checked that this part of the file is JSON.
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    try:
        header = json.loads(metadata[KEY])
    except (KeyError, ValueError, RecursionError):
        raise BadEncoder(f"no {KEY!r} header: this project did not write the file") from None
    if not isinstance(header, dict):
        raise BadEncoder(f"the {KEY!r} header must be a JSON object, got {header!r:.80}")
    _check_header(header)
    return header


def _check_header(header: dict[str, Any]) -> None:
    try:
        check_int("format", header.get("format"), 1, 2**31)
        if header["format"] > FORMAT:
            raise BadEncoder(f"format {header['format']} is newer than {FORMAT}, the newest known")
        check_int("n_features", header.get("n_features"), 1, MAX_FEATURES)
    except InvalidInput as error:
        raise BadEncoder(f"header: {error}") from None
    for key, kind in (("method", str), ("params", dict)):
        if not isinstance(header.get(key), kind):
            raise BadEncoder(
                f"header: {key} must be a {kind.__name__}, got {header.get(key)!r:.80}"
            )


def _read_array(name: str, dtype: str, shape: list[int], data: bytes) -> NDArray[np.float32]:
    if dtype != "F32":
        raise BadEncoder(f"{name:.80} must be float32 (F32), got {dtype}")
    try:
        return np.frombuffer(data, "<f4").reshape(shape)
    except ValueError as error:  # more or longer dimensions than numpy allows
        raise BadEncoder(f"{name:.80} has an impossible shape: {error}") from None
