"""Codes of items and queries: made by the encoder of a collection, or given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from app.errors import Conflict
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
    fingerprint: str | None = None,
) -> Codes:
    """Return the codes of items to store, from their descriptors or as they are given.

    Raise InvalidInput unless the collection takes what is given: descriptors if it has an encoder,
    which then made all its codes, and codes if it has none. Codes that the encoder made elsewhere
    are taken with its `fingerprint`; with another one, Conflict is raised.
    """
    if codes is None:
        if fingerprint is not None:
            raise InvalidInput("a fingerprint says which encoder made codes; descriptors are given")
        # Without an encoder, this raises.
        return encoders.hasher_of(collection).encode(descriptors)
    if collection.encoder:
        _check_made_by(collection, fingerprint)
    elif fingerprint is not None:
        raise InvalidInput(
            f"collection {collection.name!r} has no encoder that could have made the codes: leave "
            "out the fingerprint"
        )
    return packed(codes, collection.n_bits)


def _check_made_by(collection: Collection, fingerprint: str | None) -> None:
    name, encoder = collection.name, collection.encoder
    if fingerprint is None:
        raise InvalidInput(
            f"the codes of collection {name!r} are made by its encoder {encoder!r}: give "
            "descriptors instead of codes, or the fingerprint of the encoder that made the codes"
        )
    if fingerprint != collection.fingerprint:
        raise Conflict(
            f"the codes were made by the encoder with fingerprint {fingerprint}; collection "
            f"{name!r} holds codes of {encoder!r}, which has {collection.fingerprint}"
        )
    if collection.keep_descriptors or collection.metric is not None:
        needs = "keeps descriptors" if collection.keep_descriptors else "ranks by estimates"
        raise InvalidInput(f"collection {name!r} {needs}: give descriptors instead of codes")


def packed(codes: GivenCodes, n_bits: int) -> Codes:
    """Return given codes as packed ones; raise InvalidInput or InvalidItems unless they fit."""
    try:
        codes = from_hex(codes, n_bits) if isinstance(codes, list) else codes
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    check_codes(codes, len(codes), n_bits)
    return codes
