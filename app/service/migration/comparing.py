"""Compare a collection with its copy in another back end."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitcodes import Codes
from index import Found, Item, Neighbour, SearchOptions
from index.backend import Collection

_K = 10
# Items of each end of a collection, in the order of insertion.
_ENDS = 50
_SEED = 0
# The part of the bits that are changed in half of the sampled codes.
_FLIPPED = 0.1


class Differs(Exception):
    """A collection and its copy are not the same."""


def check_same(source: Collection, copy: Collection) -> None:
    """Raise Differs unless both were made alike and hold the same number of items."""
    for what in ("n_bits", "encoder", "fingerprint", "descriptor_type", "metric"):
        expected, got = getattr(source, what), getattr(copy, what)
        if expected != got:
            raise Differs(f"{what} is {got!r:.80}, and {expected!r:.80} in the source")
    if len(source) != len(copy):
        raise Differs(f"it holds {len(copy):,} items, and {len(source):,} in the source")


def check_same_answers(source: Collection, copy: Collection, queries: int) -> None:
    """Raise Differs unless pages and sampled queries have the same answers.

    The queries are codes of items of the source, some of them with bits changed. Ids, distances,
    ties, codes, labels and payloads of the neighbours must be equal, and so must the kept
    descriptors.
    """
    for offset in {0, max(0, len(source) - _ENDS)}:
        expected, got = (one.items(offset, _ENDS)[0] for one in (source, copy))
        _check_equal(f"items from place {offset:,}", _items(expected), _items(got))
    if source.metric is not None or not len(source):
        return
    codes = _queries(source, queries)
    answers = [one.search(codes, SearchOptions(_K, codes=True)) for one in (source, copy)]
    for code, expected_found, found in zip(codes, *answers, strict=True):
        about = f"the answer to the query {code.tobytes().hex()}"
        _check_equal(about, _neighbours(expected_found), _neighbours(found))
    if source.keep_descriptors:
        ids = {found.neighbours[0].id for found in answers[0]}
        kept, copied = (one.descriptors(ids) for one in (source, copy))
        if kept.dtype != copied.dtype or not np.array_equal(kept, copied, equal_nan=True):
            raise Differs("the kept descriptors are not the same")


def _queries(source: Collection, n: int) -> Codes:
    codes = source.sample_codes(n, _SEED).codes
    bits = np.unpackbits(codes, axis=1, count=source.n_bits)
    changed = np.random.default_rng(_SEED).random(bits.shape) < _FLIPPED
    changed[::2] = False
    return np.packbits(bits ^ changed, axis=1)


def _items(items: list[Item]) -> list[Any]:
    return [(one.id, one.code, one.label, one.payload_json) for one in items]


def _neighbours(found: Found) -> list[Any]:
    def values(one: Neighbour) -> Any:
        return one.id, one.distance, one.code, one.label, one.payload_json

    return [values(one) for one in found.neighbours]


def _check_equal(about: str, expected: list[Any], got: list[Any]) -> None:
    if expected == got:
        return
    place = next(
        (at for at, (one, other) in enumerate(zip(expected, got, strict=False)) if one != other),
        min(len(expected), len(got)),
    )
    shown = [f"{one[place]!r:.200}" if place < len(one) else "nothing" for one in (expected, got)]
    raise Differs(f"{about}, at place {place}: expected {shown[0]}, got {shown[1]}")
