"""When new items of a collection are compared with its reference, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from app.database.state import State
from app.database.tables import drift
from app.pools import Pool
from app.service.drift.two_samples import differences
from app.service.drift.watched import LEAST_P, Serials, Watched
from index import Closed, Full, InvalidItems, NotFound, Patch, ServerError, Unavailable
from index.backend import Collection, Moment, Store

REMEMBERED = 10
"""Windows whose alarms are shown."""
FALSE_ALARM_RATE = round(3 * REMEMBERED * LEAST_P, 6)
"""Probability, at most, that any of these windows raises an alarm although nothing has changed.

By Bonferroni's correction for the three tests of each window, whose p-values are exact.
"""
WINDOW = 1000
"""Fewest new items that are tested, and the most that are drawn from them."""
LEAST_REFERENCE = 2000
"""Fewest items of which a reference is taken."""
# A window is also at least this share of the collection, so that tests take a small share of the
# time in which a large collection is loaded.
_SHARE = 0.01
_REFERENCE = 2048
_SEED = 0

log = structlog.stdlib.get_logger("bitcell")


class Drift:
    """The references of all collections of a service, and the tests against them. Thread-safe.

    Parameters
    ----------
    state : State
        The database that holds the collections, too.
    store : Store
    pool : Pool
        Runs the tests.
    """

    def __init__(self, state: State, store: Store, pool: Pool) -> None:
        self._state, self._store, self._pool = state, store, pool
        # Held while a collection is tested.
        self._testing = Lock()
        self._queued: set[int] = set()
        # By collection: how many items were written when there were too few left to test.
        self._too_few: dict[int, int] = {}
        rows = state.read(select(drift.c.collection, drift.c.watched))
        listed = {collection.key: collection for collection in store.list()}
        self._watched = {key: Watched.from_json(text) for key, text in rows if key in listed}
        for key in self._watched:
            listed[key].follow_patches()

    def note(self, collection: Collection) -> None:
        """Note that items have been written; test them in the pool if they are enough.

        The write is done, so nothing is raised if the collection can no longer be read.
        """
        key = collection.key
        try:
            if key in self._queued or not self._is_due(collection):
                return
        except (NotFound, Unavailable, ServerError):
            return  # It is gone, or the next write finds the items due.
        self._queued.add(key)
        try:
            self._pool.submit(self._test_later, collection.name, key)
        except RuntimeError:  # The pool is closed: the service stops, and the next one tests them.
            self._queued.discard(key)

    def alarms(self) -> dict[str, int]:
        """Return how many of the last windows raised an alarm, by collection."""
        self._read_shared()
        self.forget()
        found = {}
        for collection in self._store.list():
            if (watched := self._watched.get(collection.key)) is not None:
                found[collection.name] = len(watched.alarms())
        return found

    def forget(self) -> None:
        """Forget collections that have been dropped or re-encoded."""
        # In this order: a collection is listed before anything is remembered of it.
        remembered = {*self._watched, *self._too_few}
        gone = remembered.difference(collection.key for collection in self._store.list())
        for key in gone:
            self._watched.pop(key, None)
            self._too_few.pop(key, None)
        if gone and self._state.shared:  # The embedded index deletes the rows of its collections.
            with self._state.writing() as execute:
                execute(delete(drift).where(drift.c.collection.in_(gone)))

    def report(self, collection: Collection) -> dict[str, Any] | None:
        """Test new items if they are enough; return what `schemas.DriftOut` describes.

        None before there is a reference.
        """
        self._test(collection)
        if (watched := self._watched.get(collection.key)) is None:
            return None
        # Read before `watched` again, whose keeping deletes the patches that it has followed.
        patches = collection.patches(watched.followed)
        watched = self._watched.get(collection.key, watched)
        # A patch writes items, none of which is new or one more than before.
        patched = watched.patched + sum(
            len(patch.old) for patch in patches if patch.first >= watched.followed
        )
        alarms = watched.alarms()
        shown = (alarms or watched.windows)[-1:]
        return {
            "alarm": bool(alarms),
            "alarms": len(alarms),
            "windows": len(watched.windows),
            "tested": watched.tested,
            "false_alarm_rate": FALSE_ALARM_RATE,
            "reference": len(watched.reference),
            "waiting": max(0, collection.written - watched.until - patched),
            "tests": [
                {**one._asdict(), "alarm": one.p_value <= LEAST_P} for one in (shown or [[]])[0]
            ],
        }

    def accept(self, collection: Collection) -> None:
        """Take a new reference from all present items, and forget the alarms.

        The new reference is on disk when this returns.

        Raises
        ------
        InvalidItems
            The collection has fewer than `LEAST_REFERENCE` items.
        Full
            The disk has no room; the old reference stays.
        """
        with self._alone(collection):
            if len(collection) < LEAST_REFERENCE:
                raise InvalidItems(
                    f"a reference needs at least {LEAST_REFERENCE:,} items; collection "
                    f"{collection.name!r} has {len(collection):,}"
                )
            # Only now: nobody would delete the patches of a collection without a reference.
            collection.follow_patches()
            key = collection.key
            before, moment = self._watched.get(key), collection.moment()
            after = _with_new_reference(moment, tested=0 if before is None else before.tested)
            self._keep(collection, after)
            self._watched[key] = after
            self._too_few.pop(key, None)
            self.forget()

    def _is_due(self, collection: Collection) -> bool:
        watched, n = self._watched.get(collection.key), len(collection)
        if watched is None:
            return n >= LEAST_REFERENCE
        since = max(watched.until + watched.patched, self._too_few.get(collection.key, 0))
        return collection.written - since >= max(WINDOW, _SHARE * n)

    def _test_later(self, name: str, key: int) -> None:
        self._queued.discard(key)
        try:
            self._store.use(name, self._test)
        except (NotFound, Closed):
            pass  # It has been dropped, or the service stops.
        except Exception:
            log.exception("new items could not be tested for drift", collection=name)

    def _test(self, collection: Collection) -> None:
        self._read_shared(collection.key)
        if not self._is_due(collection):
            return
        with self._alone(collection):
            if not self._is_due(collection):
                return
            key, written = collection.key, collection.written
            collection.follow_patches()
            before, moment = self._watched.get(key), collection.moment()
            # Read after the moment, so that all patches are among them that it shows.
            patches = collection.patches(0 if before is None else before.followed)
            after = _tested(before, moment, patches, collection.n_bits)
            if after is not None and after is not before:
                self._watched[key] = after
                try:
                    self._keep(collection, after)
                except Full as error:  # After a restart, the same items are tested again.
                    log.warning(
                        "the result of a test for drift could not be kept", error=str(error)
                    )
                self.forget()
            if self._is_due(collection):
                self._too_few[key] = written
            tested = 0 if before is None else before.tested
            if after is not None and after.tested > tested and after.windows[-1] in after.alarms():
                log.warning("the codes of new items differ", collection=collection.name)

    @contextmanager
    def _alone(self, collection: Collection) -> Iterator[None]:
        """Keep out other tests of a collection, and know what those before have found."""
        with self._testing, self._state.locked(f"drift of {collection.key}"):
            self._read_shared(collection.key)
            yield

    def _read_shared(self, key: int | None = None) -> None:
        """Read what other replicas have found about a collection, or about all."""
        if not self._state.shared:
            return
        chosen = select(drift.c.collection, drift.c.watched)
        found = self._state.read(chosen if key is None else chosen.where(drift.c.collection == key))
        for stored, text in found:
            self._watched[stored] = Watched.from_json(text)

    def _keep(self, collection: Collection, watched: Watched) -> None:
        key = collection.key
        # The embedded index refuses this for a collection that has been deleted meanwhile.
        with suppress(IntegrityError), self._state.writing() as execute:
            execute(delete(drift).where(drift.c.collection == key))
            execute(insert(drift).values(collection=key, watched=watched.json()))
        try:
            collection.forget_patches(watched.followed)
        except Full as error:  # Nobody asks for them again; the next test deletes them.
            log.warning("followed patches could not be deleted", error=str(error))


def _tested(
    before: Watched | None, moment: Moment, patches: list[Patch], n_bits: int
) -> Watched | None:
    """Return what is known after the new items of a moment have been tested.

    If they are too few, only patches are followed. None if there is no reference yet.
    """
    end = _end(moment)
    # Later ones change items that this moment shows as they were before.
    patches = [patch for patch in patches if patch.first < end]
    reference = np.empty(0, np.int64)
    if before is not None:
        before = before.after(patches, followed=max(end, before.followed))
        reference = _places(moment, np.array(before.reference, np.int64))
    if before is None or len(reference) < LEAST_REFERENCE // 2:
        # There was none, or most of its items have been deleted or replaced.
        if len(moment) < LEAST_REFERENCE:
            return before
        fresh = _with_new_reference(moment)
        if before is None:
            return fresh
        return replace(fresh, windows=before.windows, tested=before.tested)
    new = np.flatnonzero(before.are_new(moment.serials))
    if len(new) < WINDOW:
        return before
    rng = np.random.default_rng([_SEED, before.tested])
    new = rng.permutation(new)[:WINDOW]
    half = len(reference) // 2
    base, held, words = map(moment.words, (reference[:half], reference[half:], new))
    window = differences(base, held, words, n_bits, LEAST_P, seed=before.tested)
    windows = [*before.windows, window][-REMEMBERED:]
    followed = max(end, before.followed)
    return Watched(before.reference, end, windows, before.tested + 1, followed=followed)


def _with_new_reference(moment: Moment, tested: int = 0) -> Watched:
    """Return what is known right after a reference has been drawn from all items of a moment."""
    order = np.random.default_rng(_SEED).permutation(len(moment))
    end = _end(moment)
    reference = moment.serials[order[:_REFERENCE]].tolist()
    return Watched(reference, end, tested=tested, followed=end)


def _end(moment: Moment) -> int:
    """Return the first serial number that no item of a moment has."""
    return int(moment.serials[-1]) + 1 if len(moment) else 0


def _places(moment: Moment, serials: Serials) -> Serials:
    """Return the places of the items with these serial numbers that are still there."""
    places = np.searchsorted(moment.serials, serials)
    places = np.minimum(places, len(moment) - 1) if len(moment) else places[:0]
    found: Serials = places[moment.serials[places] == serials[: len(places)]]
    return found
