"""The kept descriptors of a collection, as data that a job learns from or measures on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.jobs.collection_arrays import write_arrays
from app.jobs.kind import Progress
from app.service.room import checking_room
from app.service.settings import Settings
from hashing import InvalidInput
from index import Collection, Store


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
