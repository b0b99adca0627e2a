"""What a batch of items must be, before any of it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, code_size
from index.errors import InvalidItems
from index.memory.ids import duplicates

MAX_ID = 256
MAX_PAYLOAD = 1 << 16

Payload = Mapping[str, Any]


def check_ids(ids: Sequence[str]) -> None:
    """Raise InvalidItems for an id that is no string of 1 to 256 characters or stands twice."""
    for place, item_id in enumerate(ids):
        if not isinstance(item_id, str) or not 1 <= len(item_id) <= MAX_ID:
            raise InvalidItems(
                f"an id is a string of 1 to {MAX_ID} characters; that of item {place} is "
                f"{item_id!r:.50}"
            )
        if not item_id.isprintable():
            raise InvalidItems(
                f"an id has printable characters only; item {place}: {item_id!a:.50}"
            )
        if "." in item_id and not {".", ".."}.isdisjoint(item_id.split("/")):
            raise InvalidItems(
                f"an id has no part '.' or '..', which clients take out of a path; item {place}: "
                f"{item_id!r:.50}"
            )
    if len(set(ids)) < len(ids):
        raise InvalidItems(f"every id may stand once in a batch; {duplicates(ids)!r} stands twice")


def check_codes(codes: Codes, n: int, n_bits: int) -> None:
    """Raise InvalidItems unless these are n packed codes of n_bits."""
    expected = (n, code_size(n_bits))
    if codes.dtype != np.uint8 or codes.shape != expected:
        raise InvalidItems(
            f"expected {n_bits}-bit codes as uint8 of shape {expected}, "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    padding = -n_bits % 8
    if padding and (codes[:, -1] & ((1 << padding) - 1)).any():
        raise InvalidItems(f"codes have bits set beyond the {n_bits} that they have")


def as_label_column(
    labels: Sequence[int | None] | NDArray[np.int64] | None, n: int
) -> NDArray[np.int64]:
    """Labels as int64, -1 where there is none."""
    if labels is None:
        return np.full(n, -1, np.int64)
    if len(labels) != n:
        raise InvalidItems(f"expected {n} labels, one an item, got {len(labels)}")
    plain = labels.tolist() if isinstance(labels, np.ndarray) else labels
    for label in plain:
        if label is not None and not -1 <= label < 2**63:
            raise InvalidItems(f"a label is from -1 (none) to 2**63 - 1, got {label}")
    return np.array([-1 if label is None else label for label in plain], np.int64)


def as_texts(payloads: Sequence[Payload | None] | None, n: int) -> list[str | None] | None:
    """Payloads as JSON."""
    if payloads is None:
        return None
    if len(payloads) != n:
        raise InvalidItems(f"expected {n} payloads, one an item, got {len(payloads)}")
    return [None if payload is None else _dump(payload, i) for i, payload in enumerate(payloads)]


def _dump(payload: Payload, place: int) -> str:
    try:
        text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItems(f"the payload of item {place} is not JSON: {error}") from None
    if len(text) > MAX_PAYLOAD:
        raise InvalidItems(
            f"a payload has at most {MAX_PAYLOAD} bytes; that of item {place} has {len(text)}"
        )
    return text


def as_half(descriptors: ArrayLike, n: int, dimension: int | None) -> NDArray[np.float16]:
    """Descriptors as float16, (n, dimension)."""
    X = np.asarray(descriptors)
    if X.ndim != 2 or len(X) != n or X.shape[1] < 1 or X.shape[1] != (dimension or X.shape[1]):
        raise InvalidItems(
            f"expected descriptors of shape ({n}, {dimension or 'd'}), got {X.shape}"
        )
    with np.errstate(over="ignore"):
        half = X.astype(np.float16)
    if not np.isfinite(half).all():
        raise InvalidItems("descriptors that are kept are finite and at most 65504, as float16")
    return half
