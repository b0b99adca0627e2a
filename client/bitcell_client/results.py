"""The answers of the service, as plain frozen dataclasses with the field names of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bitcell_client import display

RerankBy = Literal["descriptors", "cosine", "bits"]
Ranking = Literal["hamming", "estimate"]
Metric = Literal["euclidean", "cosine", "dot"]
DescriptorType = Literal["float16", "float32"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Encoder(display.Result):
    """An encoder; `fingerprint` is the SHA-256 of everything that decides its codes."""

    name: str
    method: str
    n_bits: int
    dimension: int
    params: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Method(display.Result):
    """A hashing method.

    A `data_free` method needs only a dimension. `needs_torch` is about training, not encoding.
    """

    method: str
    data_free: bool
    needs_labels: bool
    needs_torch: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Collection(display.Result):
    """A collection; `items` is how many it holds, `fingerprint` that of its encoder.

    Encoder and fingerprint are None if it holds codes of the caller's own. `descriptor_type` is how
    it keeps descriptors; None if it does not, or if the service is too old to say. `metric` is the
    distance that is estimated, if `ranking` is "estimate".
    """

    name: str
    encoder: str | None
    fingerprint: str | None
    n_bits: int
    items: int
    keep_descriptors: bool
    descriptor_type: DescriptorType | None = None
    ranking: Ranking = "hamming"
    metric: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Snapshot(display.Result):
    """A snapshot: a file in `snapshots/` of the data directory, and its number of items.

    `removed` names the snapshots that were deleted, if `keep` was given.
    """

    snapshot: str
    items: int
    removed: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SnapshotFile(display.Result):
    """A file in `snapshots/` of the data directory; `created` is in seconds since 1970."""

    snapshot: str
    bytes: int
    created: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Dataset(display.Result):
    """A dataset of the service; `created` is in seconds since 1970.

    `bytes` and `created` are None for `digits`, which is built in.
    """

    dataset: str
    bytes: int | None
    created: float | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UploadedDataset(Dataset):
    """A dataset that has just been uploaded, and what it holds.

    `labelled` is the number of items with a label, `classes` that of different labels. `queries`
    are its own, which are not items.
    """

    items: int
    dimension: int
    labelled: int
    classes: int
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Upserted(display.Result):
    """The number of items written, and the number that the collection now holds."""

    upserted: int
    items: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Deleted(display.Result):
    """The number of items deleted."""

    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Changed(display.Result):
    """The number of items changed, and the number that the collection holds."""

    changed: int
    items: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Counted(display.Result):
    """The number of items that match a filter."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Item(display.Result):
    """A stored item; `code` is its packed code in hex."""

    id: str
    code: str
    label: int | None = None
    payload: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ItemPage(display.Items):
    """A page of items; `of` is how many the collection holds in all, or how many match."""

    items: list[Item]
    of: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Accepted(display.Result):
    """A job that was started, and the path to ask for its state."""

    id: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Progress(display.Result):
    """How far a job is: `done` steps `of` all, what it does `now`, and the time left.

    `seconds_left` assumes that each step takes as long as those before; it is None before the
    first step ends.
    """

    done: int
    of: int
    now: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Job(display.Benchmark):
    """A job; times are seconds since 1970.

    `kind` is `training`, `benchmark`, `recommendation`, `explanation`, `reencoding` or
    `duplicates`. `progress` is there while it waits or runs, `result` when it is done, `error` when
    it failed.
    """

    id: str
    kind: str
    state: JobState
    request: dict[str, Any]
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    created: float
    started: float | None = None
    ended: float | None = None
