"""Exact Hamming search over short binary codes, with a durable record on disk."""

from __future__ import annotations

from index import backend, snapshot
from index.callbacks import holding
from index.collection import Collection
from index.errors import (
    AlreadyExists,
    BadSnapshot,
    Closed,
    Damaged,
    DiskError,
    Full,
    IndexProblem,
    InUse,
    InvalidItems,
    NotFound,
    Replaced,
    ServerError,
    Unavailable,
    Unreadable,
)
from index.filters.filter import Filter
from index.memory.estimated import Scan
from index.search.paths import searches_by_path
from index.storage.catalog import DescriptorType, Metric
from index.storage.database import Database
from index.store import Store
from index.types import (
    Certificate,
    CodeSample,
    DescriptorBatch,
    Found,
    Item,
    ItemBatch,
    Neighbour,
    Patch,
    RerankBy,
    SearchOptions,
)
from index.validation import check_codes, check_name

__all__ = [
    "AlreadyExists",
    "BadSnapshot",
    "Certificate",
    "Closed",
    "CodeSample",
    "Collection",
    "Damaged",
    "Database",
    "DescriptorBatch",
    "DescriptorType",
    "DiskError",
    "Filter",
    "Found",
    "Full",
    "InUse",
    "IndexProblem",
    "InvalidItems",
    "Item",
    "ItemBatch",
    "Metric",
    "Neighbour",
    "NotFound",
    "Patch",
    "Replaced",
    "RerankBy",
    "Scan",
    "SearchOptions",
    "ServerError",
    "Store",
    "Unavailable",
    "Unreadable",
    "backend",
    "check_codes",
    "check_name",
    "holding",
    "searches_by_path",
    "snapshot",
]
