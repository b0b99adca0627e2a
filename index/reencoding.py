"""A collection's items into another one, with codes of another encoder, while it takes writes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, to_words
from index.collection import CHUNK, Collection
from index.memory.view import View
from index.validation import check_codes

Encode = Callable[[NDArray[np.float16]], Codes]


def copy_all(
    old: Collection, new: Collection, encode: Encode, progress: Callable[[int, int], None]
) -> None:
    """Put all items of this moment into `new`."""
    view, rows = old.moment()
    for first in range(0, len(rows), CHUNK):
        _copy(old, new, view, rows[first : first + CHUNK], encode)
        progress(min(first + CHUNK, len(rows)), len(rows))


def copy_written(old: Collection, new: Collection, written: set[str], encode: Encode) -> None:
    """Repeat in `new` what was written to `old` meanwhile, under these ids."""
    every = sorted(written)
    for first in range(0, len(every), CHUNK):
        ids = every[first : first + CHUNK]
        view, rows = old.locate(ids)
        new.delete([ids[place] for place in np.flatnonzero(rows < 0).tolist()])
        _copy(old, new, view, rows[rows >= 0], encode)


def _copy(
    old: Collection, new: Collection, view: View, rows: NDArray[np.int64], encode: Encode
) -> None:
    if not len(rows):
        return
    texts, kept = old.stored_payloads(view, rows), old.stored_descriptors(view, rows)
    codes = encode(kept)
    check_codes(codes, len(rows), new.n_bits)
    new.put(view.names(rows), to_words(codes), view.labels(rows), texts, kept)
