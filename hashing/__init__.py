"""Descriptors to short binary codes: the hash methods, behind one interface."""

from __future__ import annotations

from hashing.base import Hasher, NotFitted
from hashing.registry import HASHERS, load_hasher, make_hasher
from hashing.storage import BadEncoder
from hashing.validation import InvalidInput

__all__ = [
    "HASHERS",
    "BadEncoder",
    "Hasher",
    "InvalidInput",
    "NotFitted",
    "load_hasher",
    "make_hasher",
]
