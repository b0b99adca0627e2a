"""Codes of items and queries: made by the encoder of a collection, or given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from app.service.encoder_store import EncoderStore
from bitcodes import Codes, from_hex
from hashing import InvalidInput
from index import check_codes
from index.backend import Collection

GivenCodes = Codes | list[str]
"""Packed codes, (n, ceil(n_bits / 8)) uint8, or codes in hex."""


@dataclass(frozen=True)
class Queries:
    """What to search for: descriptors, (q, d), ids of q items of the collection, or q codes."""

    descriptors: NDArray[Any] | None = None
    ids: list[str] | None = None
    codes: GivenCodes | None = None

    def __len__(self) -> int:
        given = (self.descriptors, self.ids, self.codes)
        return max((len(queries) for queries in given if queries is not None), default=0)

    def __getitem__(self, part: slice) -> Queries:
        if self.codes is not None:
            return Queries(codes=self.codes[part])
        if self.descriptors is not None:
            return Queries(self.descriptors[part])
        return Queries(ids=(self.ids or [])[part])


def item_codes(
    encoders: EncoderStore,
    collection: Collection,
    descriptors: ArrayLike,
    codes: GivenCodes | None,
) -> Codes:
    """Return the codes of items to store, from their descriptors or as they are given.

    Raise InvalidInput unless the collection takes what is given: descriptors if it has an encoder,
    which then made all its codes, and codes if it has none.
    """
    if codes is None:
        # Without an encoder, this raises.
        return encoders.hasher_of(collection).encode(descriptors)
    if collection.encoder:
        raise InvalidInput(
            f"the codes of collection {collection.name!r} are made by its encoder "
            f"{collection.encoder!r}: give descriptors instead of codes"
        )
    return packed(codes, collection.n_bits)


def packed(codes: GivenCodes, n_bits: int) -> Codes:
    """Return given codes as packed ones; raise InvalidInput or InvalidItems unless they fit."""
    try:
        codes = from_hex(codes, n_bits) if isinstance(codes, list) else codes
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    check_codes(codes, len(codes), n_bits)
    return codes
