"""Writes that depend on what is stored: deletion by a filter, patches of labels and payloads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bitcodes import code_size, to_codes
from index.callbacks import Checkpoint, Count
from index.errors import InvalidItems
from index.filters import evaluate
from index.filters.filter import Filter
from index.memory.batch import NO_LABEL, Batch
from index.memory.ids import pack
from index.state import State
from index.types import Item
from index.validation import as_label_column, as_text, check_ids

Patch = Mapping[str, Any]
T = TypeVar("T")

# All other writes wait while what was written during a pass over the items is tested, which takes
# some tens of milliseconds for this many items. If there are more, another pass begins, up to this
# many passes.
_FEW_NEW = 1000
_MAX_PASSES = 5
# Payloads that are patched at once.
_CHUNK = 250


def delete_matching(state: State, where: Filter, checkpoint: Checkpoint) -> int:
    """Delete the items that match at one moment; return how many they were."""
    n_passes = 0
    while True:
        with state.reading():
            view = state.rows.view()
            mask = evaluate.mask(where, view, state.columns, checkpoint)
        n_passes += 1
        tested = view.serials()
        with state.writing_alone():
            now = state.rows.view()
            # In another segment the rows are other ones; serial numbers stay and only grow.
            serials = now.serials()
            new_rows = np.flatnonzero(serials > tested.max(initial=-1))
            if len(new_rows) <= _FEW_NEW or n_passes >= _MAX_PASSES:
                matches = np.isin(serials, tested[mask])
                matches[new_rows] = evaluate.mask_of(
                    where, now, new_rows, state.columns, checkpoint
                )
                rows = now.live_among(matches)
                if len(rows):
                    state.delete_rows(now, rows)
                return len(rows)


def patch(state: State, ids: Sequence[str], patches: Sequence[Patch], count: Count) -> None:
    """Change labels and payloads as `Collection.patch` does."""
    if ids:
        checked = checked_patches(ids, patches)
        state.write(partial(_patch, state, *checked, count, lambda batch: None), ids)


def patch_one(state: State, item_id: str, change: Patch) -> Item:
    """Change the label or the payload of one item, and return it as it is then."""
    checked = checked_patches([item_id], [change])

    def work(connection: sqlite3.Connection) -> Item:
        def item(batch: Batch) -> Item:
            (code,) = to_codes(batch.words, code_size(state.n_bits))
            (label,), (serial,) = batch.labels.tolist(), batch.serials.tolist()
            text = state.record.payload_bytes([serial], connection=connection).get(serial)
            return Item(item_id, code.tobytes(), None if label == NO_LABEL else label, text)

        return _patch(state, *checked, lambda n: None, item, connection)

    return state.write(work, [item_id])


def checked_patches(
    ids: Sequence[str], patches: Sequence[Patch]
) -> tuple[Sequence[str], Sequence[Patch], NDArray[np.int64]]:
    """Return ids, patches and new labels; raise InvalidItems if a patch is not valid."""
    check_ids(ids)
    if len(patches) != len(ids):
        raise InvalidItems(f"expected {len(ids)} patches, one an item, got {len(patches)}")
    for place, each in enumerate(patches):
        if not isinstance(each, Mapping) or not each or not set(each) <= {"label", "payload"}:
            raise InvalidItems(
                f"expected a label, a payload or both to change item {place}, got {each!r:.60}",
                place,
            )
        if each.get("payload") is not None:
            as_text(each["payload"], f"item {place}", place)
    return ids, patches, as_label_column([each.get("label") for each in patches], len(ids))


def _patch(
    state: State,
    ids: Sequence[str],
    patches: Sequence[Patch],
    new_labels: NDArray[np.int64],
    count: Count,
    result: Callable[[Batch], T],
    connection: sqlite3.Connection,
) -> T:
    """Put items again, with their codes and descriptors; return `result` of what was written.

    All that is read has been written before, if only in the same transaction.
    """
    state.check_present()
    record = state.record
    rows, serials = state.rows.find_staged(ids)
    state.check_found(ids, rows)
    words, labels = state.rows.staged(rows)
    labels = np.where(["label" in each for each in patches], new_labels, labels)
    batch = Batch(*pack(ids), words, labels, np.empty(0, np.int64))
    with record.all_or_nothing():
        new = record.insert(connection, batch, None, None, serials)
        # A payload may be 64 KiB long.
        for start in range(0, len(ids), _CHUNK):
            part = slice(start, start + _CHUNK)
            stored = record.payload_bytes(serials[part].tolist(), count, connection)
            texts = [
                patched(stored.get(serial), patches[place], ids[place], place)
                for place, serial in enumerate(serials[part].tolist(), start)
            ]
            record.put_payloads(connection, new[part], texts)
        if state.descriptor_type is not None:
            count(record.descriptor_bytes(connection) * len(ids))
            record.copy_descriptors(connection, serials, new)
        state.patches.note(connection, serials, new)
        returned = result(replace(batch, serials=new))
        # Nothing may fail from here on: what is staged is published with the next commit.
        state.rows.stage(ids, words, labels, new, rows)
    return returned


def patched(stored: bytes | None, change: Patch, item_id: str, place: int) -> str | None:
    """Return the new payload of an item as JSON, None for none."""
    if "payload" not in change:
        return None if stored is None else stored.decode()
    if change["payload"] is None:
        return None
    merged = merge_patch({} if stored is None else json.loads(stored), change["payload"])
    # Earlier versions stored lone surrogates, which may be in what is not changed.
    return as_text(merged, f"item {item_id!r}", place, allow_surrogates=True)


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
