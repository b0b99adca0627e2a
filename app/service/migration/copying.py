"""Copy collections and encoders from one back end to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from time import monotonic, sleep

import numpy as np

from app.errors import Conflict
from app.service.encoder_store import Encoder, EncoderStore
from app.service.migration.comparing import Differs, check_same, check_same_answers
from hashing.progress import Progress
from index import AlreadyExists, InvalidItems, ItemBatch, NotFound, Unavailable
from index.backend import Collection, Store

# Limits of a batch: its items, and about how many characters they take. Milvus takes 48 MiB.
_ITEMS = 5_000
_SIZE = 8 << 20
# How many seconds a target is waited for that does not answer: more than Milvus takes to start.
_PATIENCE = 600.0
_OTHERS = "or name the other collections only"
_LEFT = f"it was left as it is: drop it there if nobody needs it, {_OTHERS}"

# Called with the number of items done of a collection, and what is being done with it.
_Report = Callable[[int, str], None]


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
    interrupted can be repeated. A collection is visible in the target only when it is complete and
    its answers are the same. While the target does not answer, the call waits for some minutes.

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
    Unavailable
        The target has not answered for some minutes.
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
        report = partial(_report, progress, done, total, name)
        found = _find(target.store, name)
        if found is None:
            _copy(collection, target.store, queries, report)
        else:
            _compare(collection, found, queries, report, _LEFT)
        done += len(collection)
        copied.append(Copied(name, len(collection), found is None))
    return copied


def _report(progress: Progress, before: int, total: int, name: str, n: int, what: str) -> None:
    progress(before + n, total, f"{what} {name}")


def _check_fits(collections: Iterable[Collection], target: Store) -> None:
    """Raise Conflict, before anything is copied, for what the target can be seen not to take."""
    can = target.capabilities
    for collection in collections:
        name = collection.name
        if collection.metric is not None and not can.estimates:
            raise Conflict(
                f"collection {name!r} ranks by estimated distances, which the target cannot: "
                f"re-encode it with the ranking 'hamming' first, {_OTHERS}"
            )
        if can.bits is not None and collection.n_bits > can.bits:
            raise Conflict(
                f"collection {name!r} has codes of {collection.n_bits:,} bits, and the target "
                f"takes at most {can.bits:,}: re-encode it with fewer first, {_OTHERS}"
            )
        width = _descriptor_bytes(collection)
        if can.descriptor_bytes is not None and width > can.descriptor_bytes:
            raise Conflict(
                f"collection {name!r} keeps descriptors of {width:,} bytes each, and the target "
                f"takes at most {can.descriptor_bytes:,}: {_OTHERS.removeprefix('or ')}"
            )
        if (found := _find(target, name)) is not None:
            try:
                check_same(collection, found)
            except Differs as error:
                raise Conflict(
                    f"the target has another collection {name!r}, or it was written to since it "
                    f"was copied: {error}; {_LEFT}"
                ) from None


def _descriptor_bytes(collection: Collection) -> int:
    if collection.descriptor_type is None:
        return 0
    return np.dtype(collection.descriptor_type).itemsize * (collection.dimension or 0)


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
                f"that of the source {encoder.fingerprint}; name the collections of other "
                "encoders only"
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


def _copy(source: Collection, target: Store, queries: int, report: _Report) -> None:
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
            for batch in _batches(source):
                report(done, "copying")
                _patiently(partial(made.put, batch), partial(report, done))
                done += len(batch.ids)
            # Before it can be seen: from then on, clients write to it.
            _compare(source, made, queries, report, "nothing of it was kept")
    except InvalidItems as error:
        raise Conflict(
            f"the target does not take collection {source.name!r}, after {done:,} of its "
            f"{len(source):,} items: {error}; nothing of it was kept"
        ) from None
    except NotFound:
        raise Conflict(
            f"collection {source.name!r} was removed from the target while it was copied, after "
            f"{done:,} of its {len(source):,} items: start again"
        ) from None
    except AlreadyExists as error:
        raise Conflict(f"{error} in the target: somebody else makes it, start again") from None


def _patiently(call: Callable[[], None], report: Callable[[str], None]) -> None:
    """Call it, again and again for some minutes while the target does not answer."""
    end = monotonic() + _PATIENCE
    while True:
        try:
            return call()
        except Unavailable as error:
            if monotonic() + error.retry_after > end:
                raise
            report("waiting for the target, for")
            sleep(error.retry_after)


def _batches(source: Collection) -> Iterator[ItemBatch]:
    """Yield all items in batches that every back end takes."""
    width = 64 + source.n_bits // 8
    if source.descriptor_type is not None:
        width += 6 * (source.dimension or 0)  # The most that a number takes as text.
    for batch in source.item_batches(min(_ITEMS, max(1, _SIZE // width))):
        sizes = np.cumsum([width + len(text or "") for text in batch.payloads])
        cuts = np.flatnonzero(np.diff(sizes // _SIZE)) + 1
        for start, end in pairwise([0, *cuts.tolist(), len(sizes)]):
            yield ItemBatch._make(None if one is None else one[start:end] for one in batch)


def _compare(
    source: Collection, copy: Collection, queries: int, report: _Report, outcome: str
) -> None:
    """Raise Conflict, which says the outcome, unless both give the same answers."""

    def compare() -> None:
        report(len(source), "comparing")
        check_same(source, copy)
        check_same_answers(source, copy, queries)

    try:
        _patiently(compare, partial(report, len(source)))
    except Differs as error:
        raise Conflict(
            f"collection {source.name!r} differs in the target: {error}; {outcome}"
        ) from None
