"""The kept descriptors of a collection: data for jobs, and whether they give its codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from app.jobs.collection_arrays import write_arrays
from app.jobs.kind import Progress
from app.service.room import checking_room
from app.service.settings import Settings
from bitcodes import Codes, paired_distances
from hashing import Hasher, InvalidInput
from index.backend import Collection, Store

MAX_CHANGED = 0.01
"""Largest share of the bits of some items that may differ."""
MAX_CHANGED_OF_ONE = 0.25
"""Largest share of the bits of one item that may differ."""
FEW_BITS = 4
"""So many bits may always differ, because one bit of a short code is a large share of it."""


def kept_descriptors(collection: Collection) -> tuple[int, bool]:
    """Return the dimension of the descriptors that a collection keeps, and if any has a label.

    Raise InvalidInput if the collection keeps none or is empty.
    """
    name = collection.name
    if not collection.encoder:
        raise InvalidInput(
            f"collection {name!r} has no encoder: its codes were given, and there are no "
            "descriptors to learn from or to encode again"
        )
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


def check_kept(
    hasher: Hasher, kept: NDArray[Any], codes: Codes, collection: str, advice: str
) -> None:
    """Raise InvalidInput if the codes of kept descriptors differ too much from those of the items.

    float16 is exact to three digits. That is enough, unless descriptors are far from zero compared
    with how they differ, or tiny: then they are rounded to a few values, and nothing but their
    codes shows it. `advice` ends the message.
    """
    changed = paired_distances(hasher.encode(kept), codes)
    n_bits, total = hasher.n_bits, int(changed.sum())
    lost = int((changed > max(FEW_BITS, MAX_CHANGED_OF_ONE * n_bits)).sum())
    if lost or total > max(FEW_BITS, MAX_CHANGED * n_bits * len(codes)):
        raise InvalidInput(
            f"as {kept.dtype}, which collection {collection!r} keeps, the descriptors do not give "
            f"the codes of the items: {total:,} of {n_bits * len(codes):,} bits differ, and more "
            f"than a quarter of those of {lost:,} items; at most {MAX_CHANGED:.0%} may, and no "
            f"item may differ so much; {advice}"
        )
