"""Writes that depend on what is stored: deletion by a filter, patches of labels and payloads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import code_size, to_codes
from index.callbacks import Checkpoint
from index.errors import InvalidItems
from index.filters.filter import Filter
from index.memory.batch import NO_LABEL, Batch
from index.memory.ids import pack
from index.state import State
from index.types import Item
from index.validation import as_label_column, as_text, check_ids

Patch = Mapping[str, Any]

# All other writes wait while what was written during a pass over the items is tested, which takes
# some tens of milliseconds for this many items. If there are more, another pass begins, up to this
# many passes.
_FEW_NEW = 1000
_MAX_PASSES = 5


def delete_matching(state: State, where: Filter, checkpoint: Checkpoint) -> int:
    """Delete the items that match at one moment; return how many they were."""
    n_passes = 0
    while True:
        with state.reading():
            view = state.rows.view()
            mask = where.mask(view, state.columns, checkpoint)
        n_passes += 1
        with state.writing_alone():
            now = state.rows.view()
            n_new = now.n_rows - view.n_rows
            # In another segment the rows are other ones.
            if now.segment is view.segment and (n_new <= _FEW_NEW or n_passes >= _MAX_PASSES):
                new_rows = np.arange(view.n_rows, now.n_rows)
                new = where.mask_of(now, new_rows, state.columns, checkpoint)
                rows = now.live_among(np.concatenate([mask, new]))
                if len(rows):
                    state.delete_rows(now, rows)
                return len(rows)


def patch(state: State, ids: Sequence[str], patches: Sequence[Patch]) -> list[Item]:
    """Change labels and payloads as `Collection.patch` does."""
    check_ids(ids)
    if len(patches) != len(ids):
        raise InvalidItems(f"expected {len(ids)} patches, one an item, got {len(patches)}")
    for place, each in enumerate(patches):
        _check_patch(each, f"item {place}")
    given = np.array(["label" in each for each in patches], bool)
    new_labels = as_label_column([each.get("label") for each in patches], len(ids))
    data, lengths = pack(ids)
    none = np.empty(0, np.int64)

    def work(connection: sqlite3.Connection) -> list[Item]:
        state.check_present()
        rows, serials = state.rows.find_staged(ids)
        state.check_found(ids, rows)
        words, labels = state.rows.staged(rows)
        labels = np.where(given, new_labels, labels)
        texts = _patched_texts(state, connection, ids, serials, patches)
        with state.record.all_or_nothing():
            batch = Batch(data, lengths, words, labels, none)
            new = state.record.insert(connection, batch, texts, None, serials)
            if state.keep_descriptors:
                state.record.copy_descriptors(connection, serials, new)
            state.rows.stage(ids, words, labels, new, rows)
        codes = to_codes(words, code_size(state.n_bits))
        return [
            Item(i, code.tobytes(), _label(label), None if text is None else text.encode())
            for i, code, label, text in zip(ids, codes, labels.tolist(), texts, strict=True)
        ]

    return state.write(work, ids) if ids else []


def _label(label: int) -> int | None:
    return None if label == NO_LABEL else label


def _check_patch(each: Patch, item: str) -> None:
    if not isinstance(each, Mapping) or not each or not set(each) <= {"label", "payload"}:
        raise InvalidItems(
            f"expected a label, a payload or both to change {item}, got {each!r:.60}"
        )
    if each.get("payload") is not None:
        as_text(each["payload"], item)


def _patched_texts(
    state: State,
    connection: sqlite3.Connection,
    ids: Sequence[str],
    serials: NDArray[np.int64],
    patches: Sequence[Patch],
) -> list[str | None]:
    """Return the new payload of each item as JSON, None for none."""
    stored = state.record.payload_bytes(serials.tolist(), connection=connection)
    texts: list[str | None] = []
    for item_id, serial, each in zip(ids, serials.tolist(), patches, strict=True):
        old = stored.get(serial)
        if "payload" not in each:
            texts.append(None if old is None else old.decode())
        elif each["payload"] is None:
            texts.append(None)
        else:
            merged = merge_patch({} if old is None else json.loads(old), each["payload"])
            # Earlier versions stored lone surrogates, which may be in what is not changed.
            texts.append(as_text(merged, f"item {item_id!r}", allow_surrogates=True))
    return texts


def merge_patch(target: Any, change: Any) -> Any:
    """Return what a JSON merge patch (RFC 7396) makes of a JSON value, which stays as it is."""
    if not isinstance(change, Mapping):
        return change
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
