"""Packed codes that the caller has: arrays of uint8, or hex as JSON holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8] | Sequence[str]
"""Codes, (n, ceil(n_bits / 8)) uint8 as `numpy.packbits(bits, axis=1)` packs them; or in hex."""


def as_packed(codes: Codes) -> NDArray[np.uint8]:
    """Return codes as an array, (n, size); ValueError for anything but codes of one length."""
    if _is_text(codes):
        texts = as_hex(codes)
        if len(set(map(len, texts))) > 1:
            raise ValueError("expected codes of one length, got codes in hex of several lengths")
        try:
            data = bytes.fromhex("".join(texts))
        except ValueError:
            raise ValueError("expected codes in hex, two digits for each byte") from None
        if not texts or 2 * len(data) != sum(map(len, texts)):
            raise ValueError("expected codes in hex, without spaces, and at least one of them")
        return np.frombuffer(data, np.uint8).reshape(len(texts), -1)
    array: NDArray[Any] = np.asarray(codes)
    if array.dtype != np.uint8 or array.ndim != 2:
        raise ValueError(
            "expected codes as uint8 of shape (n, ceil(n_bits / 8)), as numpy.packbits(bits, "
            f"axis=1) returns them, or as strings in hex; got {array.dtype} of shape {array.shape}"
        )
    return array


def as_hex(codes: Codes) -> list[str]:
    """Return codes in hex; the service checks those that are so already."""
    if _is_text(codes):
        return [str(code) for code in codes]
    packed = as_packed(codes)
    text, width = packed.tobytes().hex(), 2 * packed.shape[1]
    return [text[start : start + width] for start in range(0, len(text), width)]


def _is_text(codes: Codes) -> bool:
    """Return whether codes are strings; ValueError for a single string."""
    if isinstance(codes, str | bytes):
        raise ValueError(f"expected a list of codes, got {codes!r:.80}")
    if isinstance(codes, np.ndarray):
        return bool(codes.dtype.kind == "U")
    return len(codes) > 0 and {type(code) for code in codes} <= {str, np.str_}
