"""The methods by name, and hashers made from a name or from an encoder file."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from hashing.base import Hasher
from hashing.estimator import check_parameter_names
from hashing.methods.agh import AGH
from hashing.methods.diffhash import DiffHash
from hashing.methods.itq import ITQ
from hashing.methods.ksh import KSH
from hashing.methods.lsh import LSH
from hashing.methods.pcah import PCAH
from hashing.methods.rabitq import RaBitQ
from hashing.methods.random_net import RandomNet1, RandomNet2
from hashing.methods.sdh import SDH
from hashing.methods.sh import SH
from hashing.methods.sign import Sign
from hashing.methods.ssh import SSH
from hashing.nets.net import Net1, Net2
from hashing.nets.siamese import Siamese1, Siamese2
from hashing.storage import BadEncoder, EncoderFile
from hashing.validation import InvalidInput, suggestion

HASHERS: dict[str, type[Hasher]] = {
    "lsh": LSH,
    "rabitq": RaBitQ,
    "random-net-1": RandomNet1,
    "random-net-2": RandomNet2,
    "sign": Sign,
    "pcah": PCAH,
    "sh": SH,
    "itq": ITQ,
    "agh": AGH,
    "diffhash": DiffHash,
    "ssh": SSH,
    "ksh": KSH,
    "sdh": SDH,
    "siamese-1": Siamese1,
    "siamese-2": Siamese2,
    "net-1": Net1,
    "net-2": Net2,
}


def make_hasher(method: str, /, **params: Any) -> Hasher:
    """Return an unfitted hasher.

    Parameters
    ----------
    method : str
        A key of `HASHERS`.
    **params
        Parameters of the method's constructor; their values are checked by `fit`.

    Raises
    ------
    InvalidInput
        A ValueError: there is no such method, or it has no such parameter.
    """
    if method not in HASHERS:
        raise unknown_method(method, HASHERS)
    check_parameter_names(HASHERS[method], params)
    return HASHERS[method](**params)


def unknown_method(method: str, known: Iterable[str]) -> InvalidInput:
    """Return the error for a method that is not one of the known ones."""
    hint = suggestion(method, known)
    return InvalidInput(f"there is no method {method!r:.80}{hint}; there are {', '.join(known)}")


def load_hasher(path: str | PathLike[str]) -> Hasher:
    """Read a fitted hasher from a file that `Hasher.save` wrote.

    Raises
    ------
    BadEncoder
        A ValueError: not an encoder file, a newer format, or contents that do not fit together.
    """
    try:
        return from_bytes(Path(path).read_bytes())
    except BadEncoder as error:
        raise BadEncoder(f"{path}: {error}") from None


def from_bytes(data: bytes) -> Hasher:
    """Return the fitted hasher in the bytes of an encoder file.

    The file may come from anyone: nothing in it is run, and no memory is allocated for sizes that
    it only claims.

    Raises
    ------
    BadEncoder
        As `load_hasher`.
    """
    file = EncoderFile.from_bytes(data)
    try:
        hasher = make_hasher(file.method, **file.params)
        hasher.restore(file.n_features, file.arrays)
    except InvalidInput as error:
        raise BadEncoder(str(error)) from None
    return hasher
