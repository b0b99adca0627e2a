"""The interface between the service and an index.

The service uses an index by these protocols only; the one exception is the table of drift, which
refers to the table of collections of the embedded backend. That backend is `index.Store` and
`index.Collection`; `app/service/service.py` and the command line open it. All methods may be called
by several threads at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcodes import Codes, Words
from index.callbacks import Checkpoint, Count
from index.filters.filter import Filter
from index.search.estimate import Terms
from index.storage.catalog import DescriptorType, Metric
from index.types import (
    CodeBatch,
    CodeSample,
    DescriptorBatch,
    Found,
    Item,
    ItemBatch,
    Patch,
    SearchOptions,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    Attributes
    ----------
    reach : int or None
        Largest `offset + k`, and largest `rerank`; None for no limit.
    batch : int or None
        Most items of a write; None for no limit.
    estimates : bool
        Whether collections can rank by estimated distances.
    bits : int or None
        Largest code length; None for that of `index.validation`.
    descriptor_bytes : int or None
        Largest size of a kept descriptor; None for no limit.
    """

    reach: int | None
    batch: int | None
    estimates: bool
    bits: int | None = None
    descriptor_bytes: int | None = None


class Moment(Protocol):
    """The items of one moment, numbered from 0 in the order in which they were written.

    Later writes do not change it. The same items have the same numbers, also after a restart.
    """

    @property
    def serials(self) -> NDArray[np.int64]:
        """Serial numbers, (n,), ascending; an item that is written again gets a larger one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels, (n,), -1 for none."""

    def __len__(self) -> int:
        """Return the number of items."""

    def words(self, places: NDArray[np.integer]) -> Words:
        """Return codes as 64-bit words."""

    def descriptors(self, places: NDArray[np.integer]) -> NDArray[Any]:
        """Return descriptors; raise InvalidItems if the collection keeps none."""


class Collection(Protocol):
    """Items with ids, codes, labels, payloads and, if they are kept, descriptors.

    `index.Collection` documents the methods in full: parameters, limits and errors are the same in
    every backend. What is checked, and with which messages, is in `index.validation` and
    `index.changes`; how neighbours are reranked and answers made, in `index.search.rerank` and
    `index.search.results`.
    """

    def __len__(self) -> int:
        """Return the number of items."""

    @property
    def key(self) -> int:
        """A number that no other collection ever gets."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def n_bits(self) -> int:
        """Code length."""

    @property
    def encoder(self) -> str:
        """Name of the encoder that makes the codes; empty if they are given."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of that encoder."""

    @property
    def keep_descriptors(self) -> bool:
        """Whether descriptors are kept."""

    @property
    def descriptor_type(self) -> DescriptorType | None:
        """How descriptors are kept; None if they are not."""

    @property
    def dimension(self) -> int | None:
        """The dimension of the descriptors that are kept; None before the first."""

    @property
    def metric(self) -> Metric | None:
        """The distance that items are ranked by the estimates of; None for the Hamming distance."""

    @property
    def written(self) -> int:
        """Number of items that were ever written, as far as readers see them."""

    @property
    def version(self) -> int:
        """Another number after each write that searches see."""

    def upsert(
        self,
        ids: Iterable[str | int],
        codes: Codes,
        labels: Sequence[int | None] | NDArray[np.integer] | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
        descriptors: ArrayLike | None = None,
        *,
        factors: ArrayLike | None = None,
    ) -> None:
        """Insert or replace items: all of them or, on an error, none."""

    def put(self, batch: ItemBatch) -> None:
        """Insert items as `upsert` does, with payloads that are JSON already."""

    def as_kept(self, descriptors: ArrayLike) -> NDArray[Any]:
        """Return descriptors rounded as this collection keeps them."""

    def delete(self, ids: Iterable[str | int]) -> int:
        """Delete items and return how many there were; skip unknown ids."""

    def delete_matching(self, where: Filter, checkpoint: Checkpoint = ...) -> int:
        """Delete the items that match at one moment; return how many they were."""

    def patch(
        self,
        ids: Iterable[str | int],
        patches: Sequence[Mapping[str, Any]],
        count: Count = ...,
    ) -> None:
        """Change labels and payloads of items: of all of them or, on an error, of none."""

    def patch_one(self, item_id: str | int, patch: Mapping[str, Any]) -> Item:
        """Change one item as `patch` does; return it as it is then."""

    def follow_patches(self) -> None:
        """Record from now on, until the store is closed, which items patches write again."""

    def patches(self, since: int) -> list[Patch]:
        """Return the recorded patches whose first new serial number is `since` or later."""

    def forget_patches(self, before: int) -> None:
        """Delete the recorded patches whose first new serial number is smaller."""

    def get(self, item_id: str | int) -> Item:
        """Return one item; raise NotFound if there is none with this id."""

    def items(
        self,
        offset: int,
        limit: int,
        count: Count = ...,
        *,
        where: Filter | None = None,
        checkpoint: Checkpoint = ...,
    ) -> tuple[list[Item], int]:
        """Return a page of the items that match, in the order of insertion, and how many match."""

    def count(self, where: Filter, checkpoint: Checkpoint = ...) -> int:
        """Return how many items match."""

    def is_ready(self, where: Filter) -> bool:
        """Return whether a filter takes little time."""

    def search(
        self,
        codes: Codes,
        options: SearchOptions,
        *,
        descriptors: ArrayLike | None = None,
        projections: ArrayLike | None = None,
        terms: Terms | None = None,
        epsilon: float | None = None,
        checkpoint: Checkpoint = ...,
        count: Count = ...,
    ) -> list[Found]:
        """Return the nearest items of each query, with ties in the order of the ids."""

    def codes(self, ids: Iterable[str | int]) -> Codes:
        """Return the codes of items; raise NotFound if one is missing."""

    def descriptors(self, ids: Iterable[str | int]) -> NDArray[Any]:
        """Return the descriptors of items; raise NotFound if one is missing."""

    def has_labels(self) -> bool:
        """Return whether any item has a label."""

    def sample_codes(self, limit: int, seed: int = 0) -> CodeSample:
        """Return codes of items chosen at random, and the number of all items."""

    def moment(self) -> Moment:
        """Return the items of this moment, to measure samples of them."""

    def neighbour_ranks(
        self, n_queries: int, k: int, checkpoint: Checkpoint = ...
    ) -> NDArray[np.int64]:
        """Return what `index.search.depth.neighbour_ranks` measures on the items."""

    def code_batches(
        self, where: Filter | None = None, checkpoint: Checkpoint = ...
    ) -> Iterator[CodeBatch]:
        """Yield ids and codes of the current items that match, some at a time."""

    def descriptor_batches(self) -> Iterator[DescriptorBatch]:
        """Yield ids, labels and descriptors of the current items, some at a time."""

    def item_batches(self, size: int) -> Iterator[ItemBatch]:
        """Yield all of the current items, at most `size` at a time, in the order of insertion."""


class Store(Protocol):
    """The collections of a backend, by name. `index.Store` documents the methods in full."""

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    def close(self) -> None:
        """Stop the work in the background."""

    def settle(self) -> None:
        """Wait until the work in the background is done."""

    def create(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        keep_descriptors: bool | DescriptorType = False,
        metric: Metric | None = None,
    ) -> Collection:
        """Make a new, empty collection; raise AlreadyExists if there is one of this name."""

    def making(
        self,
        name: str,
        n_bits: int,
        *,
        encoder: str,
        fingerprint: str,
        descriptor_type: DescriptorType | None,
        metric: Metric | None,
    ) -> AbstractContextManager[Collection]:
        """Make a collection that is visible only after the block, and never if the block raises."""

    def get(self, name: str) -> Collection:
        """Return the collection of this name; raise NotFound if there is none."""

    def use(self, name: str, work: Callable[[Collection], T]) -> T:
        """Return work(collection). If the collection is re-encoded meanwhile, call `work` again."""

    def list(self) -> Sequence[Collection]:
        """Return all collections, by name."""

    def drop(self, name: str) -> None:
        """Drop a collection; raise NotFound if there is none of this name."""

    def reencode(
        self,
        name: str,
        encode: Callable[[NDArray[Any]], Codes],
        n_bits: int,
        *,
        encoder: str = "",
        fingerprint: str = "",
        metric: Metric | None = None,
        factors: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None,
        check: Callable[[NDArray[Any], Codes], None] = ...,
        progress: Callable[[int, int], None] = ...,
    ) -> Collection:
        """Encode all items again, from their kept descriptors, and switch to the new codes.

        Raise InvalidItems if a metric is given and the backend estimates no distances.
        """
