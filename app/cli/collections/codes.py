"""What `bitcell load` does with a parquet file of codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.cli.collections.calls import OPTIONS, show_collection, show_encoder
from app.cli.running_service import RunningService
from app.encoding.items import ItemFiles, Items
from bitcodes import code_size

# What an item takes in JSON, as `Items.sizes` counts, besides its id, code and payload.
_FIELDS = 130


def check_new(
    service: RunningService, source: str, items: ItemFiles, new: dict[str, Any], made_by: str | None
) -> None:
    """Raise ValueError, before a collection is created, unless it will take the codes."""
    for name in ("ranking", "metric", "keep_descriptors"):
        if name in new:
            raise ValueError(f"{source} has codes and no descriptors: leave out {OPTIONS[name]}")
    if "encoder" in new:
        encoder = show_encoder(service, new["encoder"])
        _check_encoder(source, made_by, f"encoder {encoder.name!r}", encoder.fingerprint)
    elif "n_bits" in new:
        _check_bits(source, items, new["n_bits"])


def check_codes(
    service: RunningService, collection: str, source: str, items: ItemFiles, made_by: str | None
) -> str | None:
    """Raise ValueError unless a collection takes the codes; return the fingerprint to send.

    It is None for a collection without an encoder.
    """
    shown = show_collection(service, collection)
    _check_bits(source, items, shown.n_bits)
    if shown.encoder is None:
        return None
    if shown.keep_descriptors or shown.metric is not None:
        needs = "keeps descriptors" if shown.keep_descriptors else "ranks by estimated distances"
        raise ValueError(
            f"collection {collection!r} {needs}, and {source} has codes and no descriptors"
        )
    _check_encoder(
        source, made_by, f"encoder {shown.encoder!r} of {collection!r}", shown.fingerprint
    )
    return made_by


def requests(items: ItemFiles, most: int, n_bytes: int) -> Iterator[Items]:
    """Yield the items of each request: at most `most`, and `n_bytes` bytes if there are several."""
    for some in items.batches(most):
        n = len(some.ids)
        ends = [n]
        if some.sizes is not None:
            lengths = np.array([len(str(each)) for each in some.ids.tolist()])
            ends = _ends(some.sizes + 4 * lengths + 2 * some.codes.shape[1] + _FIELDS, n_bytes)
        start = 0
        for end in ends:
            part = slice(start, end)
            labels = None if some.labels is None else some.labels[part]
            payloads = None if some.payloads is None else some.payloads[part]
            yield Items(some.ids[part], some.codes[part], labels, payloads)
            start = end


def _ends(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Return where to cut, so that the sizes of each part add up to at most `most`.

    An item that is larger is a part of its own.
    """
    sums, ends, end = np.cumsum(sizes), list[int](), 0
    while end < len(sizes):
        before = sums[end - 1] if end else 0
        end = max(end + 1, int(np.searchsorted(sums, before + most, "right")))
        ends.append(end)
    return ends


def _check_encoder(source: str, made_by: str | None, encoder: str, fingerprint: Any) -> None:
    if made_by is None:
        raise ValueError(
            f"{source} does not say which encoder made its codes: if it was {encoder}, give "
            f"--fingerprint {fingerprint}"
        )
    if made_by != fingerprint:
        raise ValueError(
            f"{source} has codes of the encoder with fingerprint {made_by}, and {encoder} has the "
            f"fingerprint {fingerprint}"
        )


def _check_bits(source: str, items: ItemFiles, n_bits: int) -> None:
    if items.about.n_bits not in (None, n_bits):
        raise ValueError(f"{source} has codes of {items.about.n_bits} bits, expected {n_bits}")
    if items.code_bytes not in (None, code_size(n_bits)):
        raise ValueError(
            f"{source} has codes of {items.code_bytes} bytes; those of {n_bits} bits have "
            f"{code_size(n_bits)}"
        )
