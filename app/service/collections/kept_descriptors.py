"""The kept descriptors of a collection: data for jobs, and whether they give its codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.jobs.collection_arrays import write_arrays
from app.jobs.kind import Progress
from app.service.room import checking_room
from app.service.settings import Settings
from bitcodes import Codes
from hashing import Hasher, InvalidInput
from index import Collection, Store

MAX_CHANGED = 0.01
"""Largest share of bits that may differ in the codes of some items together."""
FEW_BITS = 4
"""So many bits may always differ: of a single item, they may be more than that share."""


def kept_descriptors(collection: Collection) -> tuple[int, bool]:
    """Return the dimension of the descriptors that a collection keeps, and if any has a label.

    Raise InvalidInput if the collection keeps none or is empty.
    """
    name = collection.name
    if not collection.keep_descriptors:
        raise InvalidInput(
            f"collection {name!r} keeps codes only, no descriptors: create one with "
            "keep_descriptors"
        )
    if collection.dimension is None or not len(collection):
        raise InvalidInput(f"collection {name!r} is empty")
    return collection.dimension, collection.has_labels()


def export(
    store: Store, settings: Settings, request: dict[str, Any], folder: Path, progress: Progress
) -> None:
    """Write the collection that a job's request names, if it names one, into the job's folder.

    Raise Full if the disk has no room.
    """
    checked = checking_room(settings, progress)
    if name := request.get("training", request).get("collection"):
        kept_descriptors(store.get(name))

        def write(collection: Collection) -> None:
            write_arrays(collection.descriptor_batches(), len(collection), folder, checked)

        store.use(name, write)


def check_codes(
    hasher: Hasher, kept: NDArray[Any], codes: Codes, collection: str, advice: str
) -> None:
    """Raise InvalidInput if the codes of kept descriptors differ too much from those of the items.

    The largest share of bits is `MAX_CHANGED`. float16 is exact to three digits. That is enough,
    unless descriptors are far from zero compared with how they differ, or tiny: then they are
    rounded to a few values, and nothing but their codes shows it.
    """
    again = hasher.encode(kept)
    changed = int(np.bitwise_count(again ^ codes).sum())
    bits = len(codes) * hasher.n_bits
    if changed > max(FEW_BITS, MAX_CHANGED * bits):
        raise InvalidInput(
            f"as {kept.dtype}, which collection {collection!r} keeps, the descriptors do not give "
            f"the codes of the items: {changed:,} of {bits:,} bits differ, and at most "
            f"{MAX_CHANGED:.0%} may; {advice}"
        )
