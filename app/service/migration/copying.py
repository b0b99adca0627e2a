"""Copy collections and encoders from one back end to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from app.errors import Conflict
from app.service.encoder_store import Encoder, EncoderStore
from app.service.migration.comparing import Differs, check_same, check_same_answers
from hashing.progress import Progress
from index import AlreadyExists, InvalidItems, ItemBatch, NotFound
from index.backend import Collection, Store

# Limits of a batch: its items, and about how many characters they take. Milvus takes 48 MiB.
_ITEMS = 5_000
_SIZE = 8 << 20


@dataclass(frozen=True)
class Place:
    """The collections and the encoders of one back end."""

    store: Store
    encoders: EncoderStore


@dataclass(frozen=True)
class Copied:
    """A collection that is the same in both places. `is_new` says whether it was copied now."""

    name: str
    items: int
    is_new: bool


def migrate(
    source: Place,
    target: Place,
    names: Sequence[str] = (),
    *,
    queries: int,
    progress: Progress = lambda done, of, now: None,
) -> list[Copied]:
    """Copy collections with their encoders, and check that both places give the same answers.

    What the target has already is compared and not copied again, so that a call that was
    interrupted can be repeated. A collection is visible in the target only when it is complete. If
    its answers then differ, it is dropped again.

    Parameters
    ----------
    source : Place
        Nothing writes to it meanwhile.
    target : Place
    names : sequence of str
        The collections to copy; by default all of them, and all encoders.
    queries : int
        Number of sampled queries that each collection is compared by.
    progress : callable
        Called with the number of items done, of all items, and what is being done.

    Raises
    ------
    NotFound
        The source has no such collection.
    Conflict
        The target cannot take a collection or an encoder, has another one of its name, or gives
        other answers. What was copied before stays.
    """
    collections = [source.store.get(name) for name in names] or list(source.store.list())
    # Otherwise what a killed call was copying could still have its name.
    target.store.settle()
    _check_fits(collections, target.store)
    encoders = source.encoders.list()
    if names:
        used = {collection.encoder for collection in collections}
        encoders = [encoder for encoder in encoders if encoder.name in used]
    _copy_encoders(encoders, target.encoders)
    total, done = sum(map(len, collections)), 0
    copied = []
    for collection in collections:
        name = collection.name
        is_new = _find(target.store, name) is None
        if is_new:
            _copy(collection, target.store, partial(_report, progress, done, total, name))
        done += len(collection)
        progress(done, total, f"comparing {name}")
        _compare(collection, target.store, queries, is_new=is_new)
        copied.append(Copied(name, len(collection), is_new))
    return copied


def _report(progress: Progress, before: int, total: int, name: str, n: int) -> None:
    progress(before + n, total, f"copying {name}")


def _check_fits(collections: Iterable[Collection], target: Store) -> None:
    """Raise Conflict, before anything is copied, for what the target can be seen not to take."""
    for collection in collections:
        if collection.metric is not None and not target.capabilities.estimates:
            raise Conflict(
                f"collection {collection.name!r} ranks by estimated distances, which the target "
                "cannot: re-encode it with the ranking 'hamming' first, or name the other "
                "collections only"
            )
        if (found := _find(target, collection.name)) is not None:
            try:
                check_same(collection, found)
            except Differs as error:
                raise Conflict(
                    f"the target has another collection {collection.name!r}, or it was written to "
                    f"since it was copied: {error}; drop it there to copy it again"
                ) from None


def _copy_encoders(encoders: Iterable[Encoder], target: EncoderStore) -> None:
    there = {encoder.name: encoder.fingerprint for encoder in target.list()}
    missing = []
    for encoder in encoders:
        found = there.get(encoder.name)
        if found is None:
            missing.append(encoder)
        elif found != encoder.fingerprint:
            raise Conflict(
                f"the target has another encoder {encoder.name!r}: its fingerprint is {found}, "
                f"that of the source {encoder.fingerprint}; drop it there, with the collections "
                "that use it"
            )
    for encoder in missing:
        try:
            target.add(encoder.name, encoder.hasher)
        except AlreadyExists:  # Somebody else has just added it.
            raise Conflict(
                f"an encoder {encoder.name!r} was added to the target meanwhile: start again"
            ) from None


def _find(store: Store, name: str) -> Collection | None:
    try:
        return store.get(name)
    except NotFound:
        return None


def _copy(source: Collection, target: Store, progress: Callable[[int], None]) -> None:
    done = 0
    try:
        with target.making(
            source.name,
            source.n_bits,
            encoder=source.encoder,
            fingerprint=source.fingerprint,
            descriptor_type=source.descriptor_type,
            metric=source.metric,
        ) as made:
            for batch in _batches(source, target.capabilities.batch or _ITEMS):
                progress(done)
                made.put(batch)
                done += len(batch.ids)
            if len(made) != done:
                raise Conflict(
                    f"collection {source.name!r}: {done:,} items were written to the target, "
                    f"which then had {len(made):,}; nothing of it was kept"
                )
    except InvalidItems as error:
        raise Conflict(
            f"the target does not take collection {source.name!r}, after {done:,} of its "
            f"{len(source):,} items: {error}; nothing of it was kept"
        ) from None
    except AlreadyExists as error:
        raise Conflict(f"{error} in the target: somebody else makes it, start again") from None


def _batches(source: Collection, most: int) -> Iterator[ItemBatch]:
    """Yield all items in batches that every back end takes; `most` is the most items of one."""
    width = 64 + source.n_bits // 8
    if source.descriptor_type is not None:
        width += 6 * (source.dimension or 0)
    for batch in source.item_batches(min(most, _ITEMS, max(1, _SIZE // width))):
        sizes = np.cumsum([width + len(text or "") for text in batch.payloads])
        cuts = np.flatnonzero(np.diff(sizes // _SIZE)) + 1
        for start, end in pairwise([0, *cuts.tolist(), len(sizes)]):
            yield ItemBatch._make(None if one is None else one[start:end] for one in batch)


def _compare(source: Collection, target: Store, queries: int, *, is_new: bool) -> None:
    try:
        found = target.get(source.name)
        check_same(source, found)
        check_same_answers(source, found, queries)
    except Differs as error:
        if is_new:
            target.drop(source.name)
        outcome = "it was dropped there again" if is_new else "drop it there to copy it again"
        raise Conflict(
            f"collection {source.name!r} differs in the target: {error}; {outcome}"
        ) from None
