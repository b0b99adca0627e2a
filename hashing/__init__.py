"""Descriptors to short binary codes: the hash methods, behind one interface."""

from __future__ import annotations

from typing import Any

from hashing.base import Hasher, NotFitted, check_parameter_names
from hashing.methods.agh import AGH
from hashing.methods.diffhash import DiffHash
from hashing.methods.itq import ITQ
from hashing.methods.ksh import KSH
from hashing.methods.lsh import LSH
from hashing.methods.random_net import RandomNet1, RandomNet2
from hashing.methods.sdh import SDH
from hashing.methods.ssh import SSH
from hashing.nets.net import Net1, Net2
from hashing.storage import BadEncoder, load_hasher
from hashing.validation import InvalidInput

HASHERS: dict[str, type[Hasher]] = {
    "lsh": LSH,
    "random-net-1": RandomNet1,
    "random-net-2": RandomNet2,
    "itq": ITQ,
    "agh": AGH,
    "diffhash": DiffHash,
    "ssh": SSH,
    "ksh": KSH,
    "sdh": SDH,
    "net-1": Net1,
    "net-2": Net2,
}


def make_hasher(method: str, /, **params: Any) -> Hasher:
    """An unfitted hasher of a method in `HASHERS`, with parameters of its constructor.

    Raises
    ------
    InvalidInput
        A ValueError: no such method, or no such parameter of it.
    """
    if method not in HASHERS:
        raise InvalidInput(f"there is no method {method!r:.80}; there are {', '.join(HASHERS)}")
    check_parameter_names(HASHERS[method], params)
    return HASHERS[method](**params)


__all__ = [
    "HASHERS",
    "BadEncoder",
    "Hasher",
    "InvalidInput",
    "NotFitted",
    "load_hasher",
    "make_hasher",
]
