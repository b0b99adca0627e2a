"""Checks of names and batches of items, made before any of a batch is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, Words, code_size, to_words
from index.errors import InvalidItems
from index.memory.factors import FACTORS, to_rows
from index.memory.ids import first_duplicate
from index.storage.catalog import DescriptorType, Metric

MAX_ID = 256
MAX_PAYLOAD = 1 << 16
MAX_LEVELS = 100
"""How deeply a payload may be nested. Parsers of JSON give up at some depth, the first near 200."""
MAX_BITS = 1 << 16
MAX_FACTOR = 1e30
"""Largest factor of an estimate. Sums of products of them stay within float32."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABELS = "a label is an integer from 0 to 2**63 - 1, or -1 or None for none"
_SEVERAL = "; put several labels of an item as a list into its payload"

Payload = Mapping[str, Any]


def check_name(name: str) -> None:
    """Raise InvalidItems unless `name` may name a collection or an encoder."""
    if not _NAME.fullmatch(name):
        raise InvalidItems(
            "a name has 1 to 64 of a-z, A-Z, 0-9, dot, dash and underscore and starts with a "
            f"letter or digit; got {name!r:.80}"
        )


def as_ids(ids: Iterable[Any]) -> list[str]:
    """Return ids as strings: a string as it is, an integer in decimal.

    Raise InvalidItems for anything else, and for one string that is given instead of a list.
    """
    if isinstance(ids, str | bytes | bytearray | memoryview | Mapping):
        raise InvalidItems(f"expected a list of ids, got {type(ids).__name__} {ids!r:.50}")
    ids = ids if isinstance(ids, list) else list(ids)
    if set(map(type, ids)) <= {str}:
        return ids
    return [_as_id(item_id, place) for place, item_id in enumerate(ids)]


def _as_id(item_id: Any, place: int) -> str:
    if not isinstance(item_id, str) and not _is_integer(item_id):
        raise InvalidItems(
            "an id is a string, or an integer, which becomes its digits; that of item "
            f"{place} is {item_id!r:.50}",
            place,
        )
    return str(item_id)


def check_ids(ids: Sequence[str]) -> None:
    """Raise InvalidItems unless all ids are printable, of 1 to 256 characters, and distinct."""
    for place, item_id in enumerate(ids):
        if not isinstance(item_id, str) or not 1 <= len(item_id) <= MAX_ID:
            raise InvalidItems(
                f"an id is a string of 1 to {MAX_ID} characters; that of item {place} is "
                f"{item_id!r:.50}",
                place,
            )
        if not item_id.isprintable():
            raise InvalidItems(
                f"an id has printable characters only; item {place}: {item_id!a:.50}", place
            )
        if "." in item_id and not {".", ".."}.isdisjoint(item_id.split("/")):
            raise InvalidItems(
                "an id has no part '.' or '..', because clients remove those from URLs; "
                f"item {place}: {item_id!r:.50}",
                place,
            )
    if len(set(ids)) < len(ids):
        raise InvalidItems(
            f"the ids of a batch are distinct; {first_duplicate(ids)!r} occurs twice"
        )


def check_keeps_descriptors(collection: str, kept: DescriptorType | None) -> None:
    """Raise InvalidItems unless a collection, given by its name, keeps descriptors."""
    if kept is None:
        raise InvalidItems(
            f"collection {collection!r} keeps no descriptors: make it with keep_descriptors"
        )


def check_given(
    collection: str, kept: DescriptorType | None, descriptors: ArrayLike | None
) -> None:
    """Raise InvalidItems unless descriptors come where, and only where, they are kept."""
    if (kept is not None) != (descriptors is not None):
        raise InvalidItems(
            f"collection {collection!r} "
            + (
                "keeps descriptors: give one for each item"
                if kept is not None
                else "keeps no descriptors: make it with keep_descriptors to give some"
            )
        )


def check_hamming(collection: str, max_score: float | None, confidence: float | None) -> None:
    """Raise InvalidItems if a search by Hamming distance is asked for what estimates have."""
    if max_score is not None or confidence is not None:
        why = (
            "radius takes the place of max_score"
            if max_score is not None
            else "confidence needs estimated distances"
        )
        raise InvalidItems(f"collection {collection!r} ranks by the Hamming distance: {why}")


def check_bits(n_bits: int) -> None:
    """Raise InvalidItems unless codes may have this length."""
    if not _is_integer(n_bits):
        raise InvalidItems(f"n_bits must be an integer, got {n_bits!r:.80}")
    if not 1 <= n_bits <= MAX_BITS:
        raise InvalidItems(f"n_bits must be from 1 to {MAX_BITS}, got {n_bits!r:.80}")


def check_codes(codes: Codes, n: int, n_bits: int) -> None:
    """Raise InvalidItems unless these are n packed codes of n_bits."""
    if np.ma.is_masked(codes):
        raise InvalidItems("codes must be complete, got masked values")
    expected = (n, code_size(n_bits))
    if codes.dtype != np.uint8 or codes.shape != expected:
        raise InvalidItems(
            f"expected {n_bits}-bit codes as uint8 of shape {expected}, "
            f"got {codes.dtype} of shape {codes.shape}"
        )
    padding = -n_bits % 8
    if padding and (beyond := codes[:, -1] & ((1 << padding) - 1)).any():
        place = int(np.flatnonzero(beyond)[0])
        raise InvalidItems(
            f"the codes have bits set beyond their {n_bits} bits: the lowest {padding} bits of the "
            f"last byte are zero; those of code {place} are not",
            place,
        )


def as_words(codes: Codes, factors: ArrayLike | None, metric: Metric | None) -> Words:
    """Return checked codes as words; with their factors if the collection estimates a metric.

    Raise InvalidItems unless factors come where, and only where, distances are estimated.
    """
    if metric is None:
        if factors is not None:
            raise InvalidItems("codes that are ranked by Hamming distance have no factors")
        return to_words(codes)
    if factors is None:
        raise InvalidItems(f"estimates of metric {metric!r} need the factors of the items")
    column = np.asarray(factors, np.float32)
    if column.shape != (len(codes), FACTORS):
        raise InvalidItems(f"expected factors of shape {(len(codes), FACTORS)}, got {column.shape}")
    wrong = ~(np.abs(column) <= MAX_FACTOR).all(axis=1) | (column[:, [0, 2]] < 0).any(axis=1)
    if wrong.any():
        place = int(wrong.argmax())
        raise InvalidItems(
            f"expected finite factors of at most {MAX_FACTOR:g}, scale and error at least 0; those "
            f"of item {place} are {column[place].tolist()}",
            place,
        )
    return to_rows(codes, column)


def as_label_column(
    labels: Sequence[int | None] | NDArray[np.integer] | None, n: int
) -> NDArray[np.int64]:
    """Return labels as int64, with -1 for none.

    Python's and numpy's integers are labels. Nothing else is converted to one: neither floats,
    booleans and strings nor dates and masked values.
    """
    if labels is None:
        return np.full(n, -1, np.int64)
    if isinstance(labels, np.ndarray):
        if labels.shape != (n,):
            hint = _SEVERAL if labels.ndim > 1 else ""
            raise InvalidItems(f"expected {n} labels, one an item, got shape {labels.shape}{hint}")
        if labels.dtype.kind in "iu" and not np.ma.is_masked(labels):
            wrong = (labels < -1) | (labels >= 2**63)
            if wrong.any():
                _as_label(labels[wrong.argmax()], int(wrong.argmax()))
            return np.asarray(labels, np.int64)
    if len(labels) != n:
        raise InvalidItems(f"expected {n} labels, one an item, got {len(labels)}")
    return np.array([_as_label(label, place) for place, label in enumerate(labels)], np.int64)


def _as_label(label: Any, place: int) -> int:
    if label is None:
        return -1
    if not _is_integer(label) or not -1 <= label < 2**63:
        hint = _SEVERAL if isinstance(label, list | tuple | set | np.ndarray) else ""
        raise InvalidItems(f"{_LABELS}; that of item {place} is {label!r:.50}{hint}", place)
    return int(label)


def _is_integer(value: object) -> TypeGuard[int | np.integer]:
    # To Python a bool is an int, and to numpy a timedelta64 is an integer.
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def as_texts(payloads: Sequence[Payload | None] | None, n: int) -> list[str | None] | None:
    """Return payloads as compact JSON that can be encoded as UTF-8.

    Raise InvalidItems if one is no object, has more than 64 KiB or more than 100 levels, or has
    text with a lone surrogate, which is no Unicode.
    """
    if payloads is None:
        return None
    if len(payloads) != n:
        raise InvalidItems(f"expected {n} payloads, one an item, got {len(payloads)}")
    return [
        None if payload is None else as_text(payload, f"item {place}", place)
        for place, payload in enumerate(payloads)
    ]


def check_stored(ids: Sequence[str], texts: Sequence[str | None]) -> None:
    """Raise InvalidItems if items of the record, which earlier versions took, are now refused."""
    check_ids(ids)
    for item_id, text in zip(ids, texts, strict=True):
        if text is not None and (not text.startswith("{") or _may_be_deep(text)):
            item = f"item {item_id!r}"
            try:
                payload = json.loads(text)
            except RecursionError:
                raise _too_deep(item) from None
            as_text(payload, item, allow_surrogates=True)


def as_text(
    payload: Payload, item: str, row: int | None = None, *, allow_surrogates: bool = False
) -> str:
    """Return the payload of an item as `as_texts` does; `row` is its place in a batch.

    Lone surrogates are escaped if they are allowed, as earlier versions did with all text.
    """
    try:
        return _as_text(payload, item, allow_surrogates)
    except InvalidItems as error:
        error.row = row
        raise


def _as_text(payload: Payload, item: str, allow_surrogates: bool) -> str:
    if not isinstance(payload, Mapping):
        raise InvalidItems(f"a payload is a JSON object; that of {item} is {payload!r:.50}")
    try:
        text = json.dumps(payload, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        if not allow_surrogates:
            raise InvalidItems(
                f"the payload of {item} has text that is no Unicode: the lone surrogate "
                f"{error.object[error.start]!a}"
            ) from None
        text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
        size = len(text)
    except RecursionError:
        raise _too_deep(item) from None
    except (TypeError, ValueError) as error:
        raise InvalidItems(f"the payload of {item} is not JSON: {error}") from None
    if size > MAX_PAYLOAD:
        raise InvalidItems(f"a payload has at most {MAX_PAYLOAD} bytes; that of {item} has {size}")
    if _may_be_deep(text) and _is_deep(payload):
        raise _too_deep(item)
    return text


def _may_be_deep(text: str) -> bool:
    """Return whether JSON text has enough opening brackets to be nested too deeply."""
    return text.count("{") + text.count("[") > MAX_LEVELS


def _is_deep(payload: Payload) -> bool:
    level: list[Any] = [payload]
    for _ in range(MAX_LEVELS):
        inside = (value.values() if isinstance(value, dict) else value for value in level)
        level = [
            value for value in chain.from_iterable(inside) if isinstance(value, dict | list | tuple)
        ]
    return bool(level)


def _too_deep(item: str) -> InvalidItems:
    return InvalidItems(
        f"a payload has at most {MAX_LEVELS} levels of lists and objects; that of {item} has more"
    )


def as_plain(descriptors: ArrayLike) -> NDArray[Any]:
    """Return descriptors as an array; raise InvalidItems unless all are real numbers."""
    if np.ma.is_masked(descriptors):
        raise InvalidItems("descriptors must be complete, got masked values")
    X = np.asarray(descriptors)
    if X.dtype.kind not in "fiu":
        raise InvalidItems(f"descriptors must be real numbers, got {X.dtype}")
    return X


def as_kept(
    descriptors: ArrayLike, n: int, dimension: int | None, kept: DescriptorType
) -> NDArray[Any]:
    """Return descriptors, (n, dimension), as they are kept."""
    X = np.asarray(descriptors)
    if X.ndim != 2 or len(X) != n or X.shape[1] < 1 or X.shape[1] != (dimension or X.shape[1]):
        raise InvalidItems(
            f"expected descriptors of shape ({n}, {dimension or 'd'}), got {X.shape}"
        )
    with np.errstate(over="ignore"):
        rounded = X.astype(kept, copy=False)
    is_finite = np.isfinite(rounded)
    if not is_finite.all():
        largest, place = np.finfo(kept).max, int(is_finite.all(axis=1).argmin())
        raise InvalidItems(
            f"descriptors that are kept must be finite and at most {largest:.7g}, the limit of "
            f"{kept}; that of item {place} is not",
            place,
        )
    return rounded
