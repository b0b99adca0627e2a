"""Creating, filling, reading, re-encoding and dropping collections."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.jobs.queue import Jobs
from app.service.checks import Rewriting, Size, check_write
from app.service.collections.codes import GivenCodes, item_codes
from app.service.collections.estimates import estimator, factors_of
from app.service.collections.kept_descriptors import check_kept, kept_descriptors
from app.service.collections.statistics import statistics
from app.service.drift.watch import Drift
from app.service.encoder_store import EncoderStore
from app.service.prometheus import Metrics
from app.service.room import check_room
from app.service.settings import Settings
from hashing import Hasher, InvalidInput
from hashing.base import MAX_BITS
from hashing.validation import as_descriptors, check_int
from index import AlreadyExists, DescriptorType, Filter, Item, Metric, NotFound
from index.backend import Collection, Store

Ranking = Literal["hamming", "estimate"]

_LOSSY = (
    'scale and centre them, or make a collection with keep_descriptors "float32"; nothing was '
    "written"
)


def ranking_of(collection: Collection) -> Ranking:
    """Return by what a collection ranks its items."""
    return "hamming" if collection.metric is None else "estimate"


class Collections:
    """The collections of a service, by name."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        encoders: EncoderStore,
        jobs: Jobs,
        metrics: Metrics,
        drift: Drift,
    ) -> None:
        self._settings = settings
        self._store = store
        self._encoders = encoders
        self._jobs = jobs
        self._metrics = metrics
        self._drift = drift

    def create(
        self,
        name: str,
        encoder: str | None = None,
        keep_descriptors: bool | DescriptorType = False,
        *,
        n_bits: int | None = None,
        ranking: Ranking = "hamming",
        metric: Metric | None = None,
    ) -> Collection:
        """Create an empty collection for the codes of an encoder, or for given codes of `n_bits`.

        Raise InvalidInput unless exactly one of both is given. Given codes come without
        descriptors, so none can be kept, and no distances can be estimated. If they are, then by
        default of the first metric that the encoder estimates.
        """
        if metric is not None and ranking != "estimate":
            raise InvalidInput(f"metric {metric!r} needs ranking 'estimate', got {ranking!r}")
        self._check_ranking(ranking)
        if encoder is not None and n_bits is None:
            with self._encoders.pinned(encoder) as used:
                if ranking == "estimate":
                    _, metric = estimator(used.hasher, metric, encoder)
                return self._store.create(
                    name,
                    used.hasher.n_bits,
                    encoder=encoder,
                    fingerprint=used.fingerprint,
                    keep_descriptors=keep_descriptors,
                    metric=metric,
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
        if ranking == "estimate":
            raise InvalidInput(
                "a collection of given codes has no factors to estimate distances: give an encoder "
                "of method 'rabitq', or leave out ranking"
            )
        check_int("n_bits", n_bits, 1, MAX_BITS)
        return self._store.create(name, n_bits)

    def get_or_create(
        self,
        name: str,
        encoder: str | None = None,
        keep_descriptors: bool | DescriptorType = False,
        *,
        n_bits: int | None = None,
        ranking: Ranking = "hamming",
        metric: Metric | None = None,
    ) -> tuple[Collection, bool]:
        """Return the collection of this name, and whether it was created, as by `create`.

        Raise AlreadyExists if it exists with other settings.
        """
        try:
            made = self.create(
                name, encoder, keep_descriptors, n_bits=n_bits, ranking=ranking, metric=metric
            )
            return made, True
        except AlreadyExists as error:
            try:
                collection = self.get(name)
            except NotFound:  # It is being made, or was dropped just now.
                raise error from None
        wanted: dict[str, Any] = {"encoder": encoder, "keep_descriptors": keep_descriptors}
        found: dict[str, Any] = {
            "encoder": collection.encoder or None,
            "keep_descriptors": collection.keep_descriptors
            if isinstance(keep_descriptors, bool)
            else collection.descriptor_type,
        }
        if ranking == "estimate" or collection.metric is not None:
            wanted["ranking"], found["ranking"] = ranking, ranking_of(collection)
        if metric is not None:
            wanted["metric"], found["metric"] = metric, collection.metric
        if n_bits is not None:
            wanted["n_bits"], found["n_bits"] = n_bits, collection.n_bits
        if found != wanted:
            raise AlreadyExists(f"expected collection {name!r} to have {wanted}; it has {found}")
        return collection, False

    def get(self, name: str) -> Collection:
        """Return the collection with this name; raise NotFound if there is none."""
        return self._store.get(name)

    def list(self) -> Sequence[Collection]:
        """Return all collections, sorted by name."""
        return self._store.list()

    def drop(self, name: str) -> None:
        """Delete a collection, its items and its metrics."""
        self._store.drop(name)
        self._metrics.remove_collection(name)
        self._drift.forget()

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
        fingerprint: str | None = None,
    ) -> Collection:
        """Insert or replace n items, with codes made from descriptors, (n, d), or given.

        A collection with an encoder takes codes only with the `fingerprint` of that encoder.

        Raise InvalidInput if the collection keeps descriptors as float16, and these lose too much.
        """
        check_write(len(ids), self._settings, self._store.capabilities)
        check_room(self._settings)
        X = descriptors if codes is not None else as_descriptors(descriptors)

        def put(collection: Collection) -> Collection:
            made = item_codes(self._encoders, collection, X, codes, fingerprint)
            if len(made) != len(ids):
                what = "descriptor" if codes is None else "code"
                raise InvalidInput(f"expected one id per {what} ({len(made)}), got {len(ids)}")
            kept = collection.as_kept(X) if collection.keep_descriptors else None
            # A hasher takes descriptors as float32, so that only float16 can change codes.
            if kept is not None and kept.dtype == np.float16:
                check_kept(self._encoders.hasher_of(collection), kept, made, name, _LOSSY)
            factors = None
            if collection.metric is not None:
                # Of what is kept, with which queries are compared in the end.
                hasher = self._encoders.hasher_of(collection)
                factors = factors_of(hasher, collection, X if kept is None else kept)
            collection.upsert(ids, made, labels, payloads, kept, factors=factors)
            return collection

        written = self._store.use(name, put)
        self._drift.note(written)
        return written

    def patch(
        self, name: str, ids: builtins.list[str], patches: builtins.list[dict[str, Any]]
    ) -> Collection:
        """Change labels and payloads; see `Collection.patch`.

        Raise TooLarge if that writes more than BITCELL_MAX_BODY bytes of what is stored again.
        """
        check_write(len(ids), self._settings, self._store.capabilities)
        check_room(self._settings)

        def patch(collection: Collection) -> Collection:
            collection.patch(ids, patches, Rewriting(self._settings))
            return collection

        patched = self._store.use(name, patch)
        self._drift.note(patched)
        return patched

    def patch_item(self, name: str, item_id: str, patch: dict[str, Any]) -> Item:
        """Change the label or the payload of an item; return it as it is then."""
        check_room(self._settings)

        def patched(collection: Collection) -> tuple[Item, Collection]:
            return collection.patch_one(item_id, patch), collection

        item, collection = self._store.use(name, patched)
        self._drift.note(collection)
        return item

    def n_items(self, written: Collection) -> int:
        """Return how many items a collection has after a write: 0 if it is dropped by then."""
        try:
            return len(written)
        except NotFound:
            with suppress(NotFound):  # It has been re-encoded.
                return self._store.use(written.name, len)
            return 0

    def item(self, name: str, item_id: str) -> Item:
        """Return one item; raise NotFound if there is none with this id."""
        return self._store.use(name, lambda collection: collection.get(item_id))

    def items(
        self,
        name: str,
        offset: int,
        limit: int,
        size: Size,
        where: Filter | None = None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> tuple[builtins.list[Item], int]:
        """Return up to `limit` items that match, oldest first, and how many match.

        `size` counts their bytes.
        """

        def page(collection: Collection) -> tuple[builtins.list[Item], int]:
            size.restart()
            return collection.items(offset, limit, size, where=where, checkpoint=checkpoint)

        return self._store.use(name, page)

    def is_slow(self, name: str, where: Filter) -> bool:
        """Return whether a filter may take long, so that quick calls should not wait for it."""
        return not self.get(name).is_ready(where)

    def count(self, name: str, where: Filter, checkpoint: Callable[[], None]) -> int:
        """Return how many items match a filter."""
        return self._store.use(name, lambda collection: collection.count(where, checkpoint))

    def delete_matching(self, name: str, where: Filter, checkpoint: Callable[[], None]) -> int:
        """Delete the items that match a filter at one moment; return how many they were."""
        return self._store.use(
            name, lambda collection: collection.delete_matching(where, checkpoint)
        )

    def delete_item(self, name: str, item_id: str) -> None:
        """Delete one item; raise NotFound if there is none with this id."""
        if not self.delete_items(name, [item_id]):
            raise NotFound(f"there is no item {item_id!r} in collection {name!r}")

    def delete_items(self, name: str, ids: builtins.list[str]) -> int:
        """Delete the items with these ids and return how many there were. Skip unknown ids."""
        return self._store.use(name, lambda collection: collection.delete(ids))

    def statistics(self, name: str) -> dict[str, Any]:
        """Return figures on the codes of a collection, as `schemas.StatisticsOut` has them."""

        def measured(collection: Collection) -> dict[str, Any]:
            return statistics(collection) | {"drift": self._drift.report(collection)}

        return self._store.use(name, measured)

    def accept_drift(self, name: str) -> dict[str, Any]:
        """Take all present items as the reference for drift, and return the new state of it."""

        def accept(collection: Collection) -> dict[str, Any]:
            self._drift.accept(collection)
            report = self._drift.report(collection)
            if report is None:
                raise NotFound(f"there is no collection {name!r}")
            return report

        return self._store.use(name, accept)

    def reencode(
        self,
        name: str,
        encoder: str,
        ranking: Ranking | None = None,
        metric: Metric | None = None,
    ) -> str:
        """Queue the re-encoding of a collection from its kept descriptors; return the job's id.

        By default the collection is ranked as before.
        """
        with self._encoders.reencoding(), self._encoders.pinned(encoder) as used:
            dimension, _ = kept_descriptors(self.get(name))
            if dimension != used.hasher.n_features_in_:
                raise InvalidInput(
                    f"encoder {encoder!r} takes descriptors of dimension "
                    f"{used.hasher.n_features_in_}; collection {name!r} keeps some of {dimension}"
                )
            self._check_ranking(ranking)
            metric = _new_metric(self.get(name), used.hasher, encoder, ranking, metric)
            reencodings = self._jobs.open_requests("reencoding")
            if name in [request["collection"] for request in reencodings]:
                raise AlreadyExists(f"collection {name!r} is already being re-encoded")
            return self._jobs.add(
                "reencoding", {"collection": name, "encoder": encoder, "metric": metric}
            )

    def _check_ranking(self, ranking: Ranking | None) -> None:
        """Raise InvalidInput if the index has no such ranking."""
        if ranking == "estimate" and not self._store.capabilities.estimates:
            raise InvalidInput(
                "ranking 'estimate' needs an index that estimates distances, and this one ranks by "
                "the Hamming distance only"
            )


def _new_metric(
    collection: Collection,
    hasher: Hasher,
    encoder: str,
    ranking: Ranking | None,
    metric: Metric | None,
) -> Metric | None:
    """Return which distance a collection estimates once an encoder has re-encoded it, if any.

    Raise InvalidInput if the encoder does not estimate it.
    """
    ranking = ranking or ranking_of(collection)
    if ranking == "hamming":
        if metric is not None:
            raise InvalidInput(f"metric {metric!r} needs ranking 'estimate', got {ranking!r}")
        return None
    return estimator(hasher, metric or collection.metric, encoder)[1]
