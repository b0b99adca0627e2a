"""Short binary codes to neighbours: exact Hamming search over a record that loses nothing."""

from __future__ import annotations

from index.collection import Collection
from index.errors import (
    AlreadyExists,
    Full,
    IndexProblem,
    InUse,
    InvalidItems,
    NotFound,
    Replaced,
    Unreadable,
)
from index.search.exact import Certificate
from index.search.filters import Filter
from index.storage.database import Database
from index.store import Store
from index.types import Found, Item, Neighbour, SearchOptions

__all__ = [
    "AlreadyExists",
    "Certificate",
    "Collection",
    "Database",
    "Filter",
    "Found",
    "Full",
    "InUse",
    "IndexProblem",
    "InvalidItems",
    "Item",
    "Neighbour",
    "NotFound",
    "Replaced",
    "SearchOptions",
    "Store",
    "Unreadable",
]
