"""Short binary codes to neighbours: exact Hamming search over a record that loses nothing."""

from __future__ import annotations

from index.collection import Collection, Item, Neighbour
from index.database import Database
from index.errors import AlreadyExists, IndexProblem, InvalidItems, NotFound, Unreadable
from index.store import Store

__all__ = [
    "AlreadyExists",
    "Collection",
    "Database",
    "IndexProblem",
    "InvalidItems",
    "Item",
    "Neighbour",
    "NotFound",
    "Store",
    "Unreadable",
]
