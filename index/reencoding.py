"""Re-encoding: copy the items of a collection into another one, with codes of another encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.memory.view import View
from index.state import State
from index.validation import as_words, check_codes

Descriptors = NDArray[Any]
"""Kept descriptors: float16 or float32."""
Encode = Callable[[Descriptors], Codes]
Factors = Callable[[Descriptors], NDArray[np.float32]]
Check = Callable[[Descriptors, Codes], None]
Progress = Callable[[int, int], None]

# Items per write.
_CHUNK = 4096
# Writes to the collection wait during the last pass, which therefore starts once a pass has had no
# more changes than this. If items change faster than they are re-encoded, it starts after this many
# passes.
FEW_CHANGES = 500
MAX_PASSES = 20


class Encoding(NamedTuple):
    """What makes codes and, if distances are estimated, factors; `check` sees the old codes."""

    encode: Encode
    factors: Factors | None
    check: Check


def copy_all(old: State, new: State, code: Encoding, progress: Progress) -> None:
    """Copy all items of `old` and then, while it takes writes, what changes meanwhile.

    `old` must track its changes. Only a few changes remain, for a last call of `copy_changes`.
    """
    view, rows = old.live()
    for first in range(0, len(rows), _CHUNK):
        _copy(old, new, view, rows[first : first + _CHUNK], code)
        progress(min(first + _CHUNK, len(rows)), len(rows))
    for _ in range(MAX_PASSES):
        if copy_changes(old, new, code, progress) <= FEW_CHANGES:
            return


def copy_changes(old: State, new: State, code: Encoding, progress: Progress) -> int:
    """Repeat in `new` all writes to `old` since the last call; return how many ids changed."""
    changed = old.take_changes()
    for first in range(0, len(changed), _CHUNK):
        # All is done but for the changes. The call may raise to give up.
        progress(len(old.rows), len(old.rows))
        ids = changed[first : first + _CHUNK]
        view, rows = old.rows.locate(ids)
        new.delete([ids[place] for place in np.flatnonzero(rows < 0).tolist()])
        _copy(old, new, view, rows[rows >= 0], code)
    return len(changed)


def _copy(old: State, new: State, view: View, rows: NDArray[np.int64], code: Encoding) -> None:
    if not len(rows):
        return
    texts, descriptors = old.payload_texts(view, rows), old.descriptors(view, rows)
    code.check(descriptors, view.codes(rows))
    codes = code.encode(descriptors)
    check_codes(codes, len(rows), new.n_bits)
    factors = None if new.metric is None or code.factors is None else code.factors(descriptors)
    words = as_words(codes, factors, new.metric)
    new.put(view.names(rows), words, view.labels(rows), texts, descriptors)
