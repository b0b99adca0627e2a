"""Re-encoding: copy the items of a collection into another one, with codes of another encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes, to_words
from index.memory.view import View
from index.state import State
from index.validation import check_codes

Descriptors = NDArray[Any]
"""Kept descriptors: float16 or float32."""
Encode = Callable[[Descriptors], Codes]
Check = Callable[[Descriptors, Codes], None]
Progress = Callable[[int, int], None]

# Items per write.
_CHUNK = 4096
# Writes to the collection wait during the last pass, which therefore starts once a pass has had no
# more changes than this. If items change faster than they are re-encoded, it starts after this many
# passes.
_FEW_CHANGES = 500
_MAX_PASSES = 20


def copy_all(old: State, new: State, encode: Encode, check: Check, progress: Progress) -> None:
    """Copy all items of `old` and then, while it takes writes, what changes meanwhile.

    `old` must track its changes. Only a few changes remain, for a last call of `copy_changes`.
    """
    view, rows = old.live()
    for first in range(0, len(rows), _CHUNK):
        _copy(old, new, view, rows[first : first + _CHUNK], encode, check)
        progress(min(first + _CHUNK, len(rows)), len(rows))
    for _ in range(_MAX_PASSES):
        if copy_changes(old, new, encode, check, progress) <= _FEW_CHANGES:
            return


def copy_changes(old: State, new: State, encode: Encode, check: Check, progress: Progress) -> int:
    """Repeat in `new` all writes to `old` since the last call; return how many ids changed."""
    changed = old.take_changes()
    for first in range(0, len(changed), _CHUNK):
        # All is done but for the changes. The call may raise to give up.
        progress(len(old.rows), len(old.rows))
        ids = changed[first : first + _CHUNK]
        view, rows = old.rows.locate(ids)
        new.delete([ids[place] for place in np.flatnonzero(rows < 0).tolist()])
        _copy(old, new, view, rows[rows >= 0], encode, check)
    return len(changed)


def _copy(
    old: State, new: State, view: View, rows: NDArray[np.int64], encode: Encode, check: Check
) -> None:
    if not len(rows):
        return
    texts, descriptors = old.payload_texts(view, rows), old.descriptors(view, rows)
    check(descriptors, view.codes(rows))
    codes = encode(descriptors)
    check_codes(codes, len(rows), new.n_bits)
    new.put(view.names(rows), to_words(codes), view.labels(rows), texts, descriptors)
