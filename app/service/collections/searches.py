"""Searching a collection for the neighbours of descriptors or of its own items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from app.errors import TooLarge
from app.service.checks import Size, check_batch, check_suits
from app.service.collections.codes import GivenCodes, Queries, packed
from app.service.collections.estimates import terms_of
from app.service.deadline import Deadline
from app.service.encoder_store import EncoderStore
from app.service.measured.calibrations import (
    NO_MEANING,
    NOTHING_ASKED,
    Asked,
    Calibrations,
    Meaning,
)
from app.service.measured.depths import Depths, certified
from app.service.prometheus import Metrics
from app.service.settings import Settings
from bitcodes import Codes
from hashing import InvalidInput
from hashing.parts.estimate import epsilon_for
from hashing.validation import as_descriptors
from index import Found, NotFound, SearchOptions
from index.backend import Collection, Store

DEFAULT_K = 10
MAX_REACH = 100_000
"""Largest `offset + k` and largest `rerank`, unless the index reaches less far."""
# A query is slow if it compares more codes, or finds more neighbours: about a tenth of a second.
_MANY_CODES = 1 << 26
_MANY_ESTIMATES = 1 << 20
_MANY_NEIGHBOURS = 20_000


class Answered(NamedTuple):
    """The neighbours of queries, and what their distances mean, as far as that was asked for."""

    found: list[Found]
    meaning: Meaning


class Searches:
    """Searches in the collections of a service."""

    def __init__(
        self, settings: Settings, store: Store, encoders: EncoderStore, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._store = store
        self._encoders = encoders
        self._metrics = metrics
        self._calibrations = Calibrations(encoders)
        self._reach = min(MAX_REACH, store.capabilities.reach or MAX_REACH)
        self._depths = Depths(self._reach)
        self._stopping = Event()

    def stop(self) -> None:
        """End the running searches, and refuse all others, because the service stops."""
        self._stopping.set()

    def deadline(self) -> Deadline:
        """Return when a query that has come now has to end."""
        return Deadline(self._settings.query_timeout, self._stopping)

    def is_slow(
        self, name: str, options: SearchOptions, n_queries: int, asked: Asked = NOTHING_ASKED
    ) -> bool:
        """Return whether a search may take long, so that quick ones should not wait for it."""
        collection = self._store.get(name)
        n = len(collection)
        many = _MANY_CODES if collection.metric is None else _MANY_ESTIMATES
        return (
            n_queries * n > many
            or n_queries * min(options.depth, n) > _MANY_NEIGHBOURS
            or options.confidence is not None  # It may compare many descriptors.
            or (options.where is not None and not collection.is_ready(options.where))
            or (bool(asked) and not self._calibrations.is_ready(collection, asked))
        )

    def options(
        self, k: int | None, radius: int | None, asked: Asked = NOTHING_ASKED, **more: Any
    ) -> SearchOptions:
        """Return search options in which k is set; `more` are further fields of SearchOptions.

        Without k, a search returns 10 neighbours, or with a radius, or a rate of false matches that
        gives one, all within it, up to BITCELL_MAX_K per query, and counts those beyond. Raise
        InvalidInput if the options reach too far.
        """
        if asked.false_match_rate is not None and radius is not None:
            raise InvalidInput("expected radius or false_match_rate, which chooses one; got both")
        if asked.false_match_rate is not None and more.get("max_score") is not None:
            raise InvalidInput(
                "expected max_score, a limit on estimated distances, or false_match_rate, which "
                "chooses one on Hamming distances; got both"
            )
        if asked.false_match_rate is not None and more.get("confidence") is not None:
            raise InvalidInput(
                "expected confidence or false_match_rate, which chooses a radius; got both: items "
                "beyond the radius can be among the true neighbours"
            )
        max_k = self._settings.max_k
        limits = (radius, more.get("max_score"), asked.false_match_rate)
        is_open = k is None and any(limit is not None for limit in limits)
        if k is None:
            reach = self._reach - (more.get("offset") or 0)
            k = max(1, min(max_k, reach)) if is_open else DEFAULT_K
        if k > max_k:
            raise InvalidInput(f"k is at most {max_k} (BITCELL_MAX_K), got {k}")
        options = SearchOptions(k, radius, count_within=is_open, **more)
        if options.depth > self._reach:
            raise InvalidInput(
                f"offset + k, and rerank, are at most {self._reach}, got {options.depth}"
            )
        return options

    def search(
        self,
        name: str,
        options: SearchOptions,
        size: Size,
        about: Asked = NOTHING_ASKED,
        *,
        descriptors: ArrayLike | None = None,
        ids: list[str] | None = None,
        codes: GivenCodes | None = None,
        deadline: Deadline | None = None,
    ) -> Answered:
        """Return the neighbours of queries, and what their distances mean.

        `size` counts their bytes. Without a deadline, the time begins now.

        Raises
        ------
        InvalidInput
            The descriptors do not suit the encoder, or the codes the collection; or what a distance
            means is not known.
        NotFound
            There is no such collection, or no such item.
        TooLarge
            The answer would have more than BITCELL_MAX_RESULTS neighbours, or more than
            BITCELL_MAX_ANSWER bytes.
        Unready
            The search took longer than BITCELL_QUERY_TIMEOUT, the service stops, or other answers
            take the memory.
        """
        checkpoint = (deadline or self.deadline()).check
        matrix = None if descriptors is None else as_descriptors(descriptors)
        queries = Queries(matrix, ids, codes)
        check_batch(len(queries), self._settings)

        def search(collection: Collection) -> Answered:
            size.restart()  # A search that a re-encoding overtakes begins again.
            check_suits(collection, options)  # Before anything is measured.
            asked = queries
            if queries.codes is not None:
                asked = Queries(codes=packed(queries.codes, collection.n_bits))
            if not about:
                found = self._limited(collection, asked, options, size, checkpoint)
                return Answered(found, NO_MEANING)
            meaning = self._calibrations.meaning(collection, about, checkpoint)
            within = options
            if meaning.matches is not None:
                within = replace(options, radius=meaning.matches.found.radius)
            found = self._limited(collection, asked, within, size, checkpoint)
            size(meaning.size(found))
            return Answered(found, meaning)

        answered = self._store.use(name, search)
        # Skip pages after the first: their nearest items are not in the answer. Skip reranked
        # answers: they are in another order.
        if options.offset == 0 and options.rerank is None and options.confidence is None:
            self._count(name, answered.found)
        return answered

    def check_dimension(self, name: str, dimension: int) -> None:
        """Raise InvalidInput unless the encoder of a collection takes this dimension."""
        expected = self._encoders.hasher_of(self._store.get(name)).n_features_in_
        if expected != dimension:
            raise InvalidInput(f"expected descriptors of dimension {expected}, got {dimension}")

    def _limited(
        self,
        collection: Collection,
        queries: Queries,
        options: SearchOptions,
        size: Size,
        checkpoint: Callable[[], None],
    ) -> list[Found]:
        """Search, and raise TooLarge for more neighbours than one request may return."""
        if options.radius is None and options.max_score is None and options.where is None:
            if len(queries) * min(options.depth, len(collection)) > self._settings.max_results:
                raise self._too_many(f"asks for {len(queries)} times {options.depth}")
            return self._search(collection, queries, options, size, checkpoint)
        return self._counted(collection, queries, options, size, checkpoint)

    def _counted(
        self,
        collection: Collection,
        queries: Queries,
        options: SearchOptions,
        size: Size,
        checkpoint: Callable[[], None],
    ) -> list[Found]:
        """Search with a radius or a filter, and count what is found, not the most that is possible.

        The number of neighbours is known only after the search. Search in batches that cannot
        exceed the limit by themselves, and stop at the first batch that exceeds it together with
        those before.
        """
        limit = self._settings.max_results
        step = max(1, limit // max(1, min(options.depth, len(collection))))
        found: list[Found] = []
        total = 0
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            part = self._search(collection, some, options, size, checkpoint)
            found += part
            total += sum(len(one.neighbours) for one in part)
            if total > limit:
                raise self._too_many("finds more: ask for fewer queries or a smaller radius or k")
        return found

    def _count(self, name: str, found: list[Found]) -> None:
        self._metrics.count_answers(name, [one.neighbours for one in found])
        try:
            self._store.get(name)
        except NotFound:  # Dropped during the search, perhaps before this count.
            self._metrics.remove_collection(name)

    def _too_many(self, why: str) -> TooLarge:
        return TooLarge(
            f"a query returns at most {self._settings.max_results} neighbours "
            f"(BITCELL_MAX_RESULTS); this one {why}"
        )

    def _search(
        self,
        collection: Collection,
        queries: Queries,
        options: SearchOptions,
        size: Size,
        checkpoint: Callable[[], None],
    ) -> list[Found]:
        checkpoint()
        if collection.metric is not None:
            return self._estimated(collection, queries, options, size, checkpoint)
        if options.confidence is not None:
            return self._measured(collection, queries, options, size, checkpoint)
        codes = self._codes(collection, queries)
        search = partial(collection.search, codes, options, checkpoint=checkpoint, count=size)
        if options.rerank is None:
            return search()
        descriptors = self._query_descriptors(collection, queries)
        if options.rerank_distance(collection.keep_descriptors) != "bits":
            return search(descriptors=descriptors)
        return search(projections=self._encoders.hasher_of(collection).project(descriptors))

    def _estimated(
        self,
        collection: Collection,
        queries: Queries,
        options: SearchOptions,
        size: Size,
        checkpoint: Callable[[], None],
    ) -> list[Found]:
        """Search by estimated distances, for which queries need descriptors."""
        descriptors = self._query_descriptors(collection, queries)
        hasher = self._encoders.hasher_of(collection)
        by_bits = options.rerank and options.rerank_distance(collection.keep_descriptors) == "bits"
        return collection.search(
            hasher.encode(descriptors),
            options,
            descriptors=descriptors,
            projections=hasher.project(descriptors) if by_bits else None,
            terms=terms_of(hasher, collection, descriptors),
            epsilon=None
            if options.confidence is None
            else epsilon_for(options.confidence, hasher.n_features_in_),
            checkpoint=checkpoint,
            count=size,
        )

    def _measured(
        self,
        collection: Collection,
        queries: Queries,
        options: SearchOptions,
        size: Size,
        checkpoint: Callable[[], None],
    ) -> list[Found]:
        """Search by Hamming distance, and rerank to the measured depth of a confidence."""
        # Before the measurement, which takes long: they may be refused.
        descriptors = self._query_descriptors(collection, queries)
        codes = self._codes(collection, queries)
        deep = self._depths.reranking(collection, options, checkpoint)
        version, n = collection.version, len(collection)
        depth = min(deep.depth, n)
        # All candidates of a search are in memory at once.
        step = max(1, self._settings.max_results // max(1, depth))
        found: list[Found] = []
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            found += collection.search(
                codes[part], deep, descriptors=descriptors[part], checkpoint=checkpoint, count=size
            )
        is_all = depth == n and collection.version == version
        return [certified(one, options.confidence, depth, is_all=is_all) for one in found]

    def _codes(self, collection: Collection, queries: Queries) -> Codes:
        if queries.codes is not None:
            return packed(queries.codes, collection.n_bits)
        if queries.descriptors is None:
            return collection.codes(queries.ids or [])
        return self._encoders.hasher_of(collection).encode(queries.descriptors)

    def _query_descriptors(self, collection: Collection, queries: Queries) -> NDArray[Any]:
        if queries.descriptors is not None:
            return queries.descriptors
        if not collection.encoder:
            raise InvalidInput(
                f"collection {collection.name!r} holds codes without descriptors: there is nothing "
                "to rerank by"
            )
        if queries.codes is not None:
            raise InvalidInput(
                f"to {_purpose(collection)}, give the descriptors of the queries instead of codes"
            )
        if not collection.keep_descriptors:
            raise InvalidInput(
                f"collection {collection.name!r} keeps no descriptors: to {_purpose(collection)}, "
                "give the descriptors of the queries instead of ids"
            )
        return collection.descriptors(queries.ids or [])


def _purpose(collection: Collection) -> str:
    return "rerank" if collection.metric is None else "estimate distances"
