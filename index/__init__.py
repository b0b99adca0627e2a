"""Short binary codes to neighbours: exact Hamming search over a record that loses nothing."""

from __future__ import annotations

from index.collection import Collection
from index.database import Database
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
from index.filters import Filter
from index.items import Found, Item, Neighbour
from index.search import Certificate
from index.store import Store

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
    "Store",
    "Unreadable",
]
