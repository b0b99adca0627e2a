"""Creating, filling, reading, re-encoding and dropping collections."""

from __future__ import annotations

import builtins
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.jobs.queue import Jobs
from app.service.checks import Size, check_batch
from app.service.collections.codes import GivenCodes, item_codes
from app.service.collections.kept_descriptors import kept_descriptors
from app.service.collections.statistics import statistics
from app.service.encoder_store import EncoderStore
from app.service.prometheus import Metrics
from app.service.room import check_room
from app.service.settings import Settings
from hashing import InvalidInput
from hashing.base import MAX_BITS
from hashing.validation import check_int
from index import AlreadyExists, Collection, Item, NotFound, Store


class Collections:
    """The collections of a service, by name."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        encoders: EncoderStore,
        jobs: Jobs,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._encoders = encoders
        self._jobs = jobs
        self._metrics = metrics
        # Held while a collection is checked and then given to a re-encoding.
        self._reencoding = Lock()

    def create(
        self,
        name: str,
        encoder: str | None = None,
        keep_descriptors: bool = False,
        *,
        n_bits: int | None = None,
    ) -> Collection:
        """Create an empty collection for the codes of an encoder, or for given codes of `n_bits`.

        Raise InvalidInput unless exactly one of both is given. Given codes come without
        descriptors, so none can be kept.
        """
        if encoder is not None and n_bits is None:
            with self._encoders.pinned(encoder) as used:
                return self._store.create(
                    name,
                    used.hasher.n_bits,
                    encoder=encoder,
                    fingerprint=used.fingerprint,
                    keep_descriptors=keep_descriptors,
                )
        if n_bits is None or encoder is not None:
            raise InvalidInput(
                "expected either encoder, which makes the codes, or n_bits, the length of codes "
                "that are given"
            )
        if keep_descriptors:
            raise InvalidInput(
                "a collection of given codes keeps no descriptors: leave out keep_descriptors, or "
                "give an encoder"
            )
        check_int("n_bits", n_bits, 1, MAX_BITS)
        return self._store.create(name, n_bits)

    def get(self, name: str) -> Collection:
        """Return the collection with this name; raise NotFound if there is none."""
        return self._store.get(name)

    def list(self) -> list[Collection]:
        """Return all collections, sorted by name."""
        return self._store.list()

    def drop(self, name: str) -> None:
        """Delete a collection, its items and its metrics."""
        self._store.drop(name)
        self._metrics.remove_collection(name)

    def takes_codes(self, name: str) -> bool:
        """Return whether items of a collection come with codes, because it has no encoder."""
        return not self.get(name).encoder

    def upsert(
        self,
        name: str,
        ids: builtins.list[str],
        descriptors: ArrayLike = (),
        labels: builtins.list[int | None] | NDArray[np.int64] | None = None,
        payloads: builtins.list[dict[str, Any] | None] | None = None,
        *,
        codes: GivenCodes | None = None,
    ) -> Collection:
        """Insert or replace n items, with codes made from descriptors, (n, d), or given."""
        check_batch(len(ids), self._settings)
        check_room(self._settings)

        def put(collection: Collection) -> Collection:
            made = item_codes(self._encoders, collection, descriptors, codes)
            if len(made) != len(ids):
                what = "descriptor" if codes is None else "code"
                raise InvalidInput(f"expected one id per {what} ({len(made)}), got {len(ids)}")
            kept = descriptors if collection.keep_descriptors else None
            collection.upsert(ids, made, labels, payloads, kept)
            return collection

        return self._store.use(name, put)

    def item(self, name: str, item_id: str) -> Item:
        """Return one item; raise NotFound if there is none with this id."""
        return self._store.use(name, lambda collection: collection.get(item_id))

    def items(
        self, name: str, offset: int, limit: int, size: Size
    ) -> tuple[builtins.list[Item], int]:
        """Return up to `limit` items from `offset` on, oldest first, and the number of all.

        `size` counts their bytes.
        """

        def page(collection: Collection) -> tuple[builtins.list[Item], int]:
            size.restart()
            return collection.items(offset, limit, size)

        return self._store.use(name, page)

    def delete_item(self, name: str, item_id: str) -> None:
        """Delete one item; raise NotFound if there is none with this id."""
        if not self.delete_items(name, [item_id]):
            raise NotFound(f"there is no item {item_id!r} in collection {name!r}")

    def delete_items(self, name: str, ids: builtins.list[str]) -> int:
        """Delete the items with these ids and return how many there were. Skip unknown ids."""
        return self._store.use(name, lambda collection: collection.delete(ids))

    def statistics(self, name: str) -> dict[str, Any]:
        """Return figures on the codes of a collection, as `schemas.StatisticsOut` has them."""
        return self._store.use(name, statistics)

    def reencode(self, name: str, encoder: str) -> str:
        """Queue the re-encoding of a collection from its kept descriptors; return the job's id."""
        with self._reencoding, self._encoders.pinned(encoder) as used:
            dimension, _ = kept_descriptors(self.get(name))
            if dimension != used.hasher.n_features_in_:
                raise InvalidInput(
                    f"encoder {encoder!r} takes descriptors of dimension "
                    f"{used.hasher.n_features_in_}; collection {name!r} keeps some of {dimension}"
                )
            reencodings = self._jobs.open_requests("reencoding")
            if name in [request["collection"] for request in reencodings]:
                raise AlreadyExists(f"collection {name!r} is already being re-encoded")
            return self._jobs.add("reencoding", {"collection": name, "encoder": encoder})
