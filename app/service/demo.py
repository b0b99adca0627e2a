"""The collection that a new service starts with, so that a query can be tried at once."""

from __future__ import annotations

import numpy as np
import structlog

from app.datasets.thumbnails import thumbnail
from app.service.service import Service

NAME = "demo"
N_BITS = 128

_SCHEMA = "CREATE TABLE IF NOT EXISTS demo (state TEXT NOT NULL) STRICT"

log = structlog.stdlib.get_logger("bitcell")


def make_demo(service: Service) -> None:
    """Make the collection `demo` at the first start in a data directory, and only then.

    1,797 scans of handwritten digits, as GIST descriptors, encoded by `lsh`, which measures best
    there of the methods without training. Who drops it does not find it again.
    """
    with service.database.transaction() as connection:
        connection.execute(_SCHEMA)
    states = [state for (state,) in service.database.read("SELECT state FROM demo")]
    if "done" in states or not service.settings.demo:
        return
    if "begun" not in states:
        if NAME in _names(service):
            log.warning(f"no demo is made: there is an encoder or a collection {NAME!r} already")
            return
        _note(service, "begun")
    _fill(service)
    _note(service, "done")


def _names(service: Service) -> set[str]:
    encoders, collections = service.encoders.list(), service.store.list()
    return {encoder.name for encoder in encoders} | {one.name for one in collections}


def _note(service: Service, state: str) -> None:
    with service.database.transaction() as connection:
        connection.execute("INSERT INTO demo VALUES (?)", (state,))


def _fill(service: Service) -> None:
    from app.datasets.catalog import load_dataset

    log.info(f"first start: making the collection {NAME!r} from 1,797 scanned digits")
    digits = load_dataset("digits", images=True)
    # A start that was cut off after it had begun has left a part of this.
    if NAME not in [encoder.name for encoder in service.encoders.list()]:
        service.create_encoder(NAME, "lsh", N_BITS, {}, descriptors=digits.descriptors)
    if NAME not in [collection.name for collection in service.store.list()]:
        service.create_collection(NAME, NAME)
    images = digits.images if digits.images is not None else np.empty((0, 8, 8, 3), np.uint8)
    service.upsert(
        NAME,
        digits.ids.tolist(),
        digits.descriptors,
        digits.labels,
        [{"thumbnail": thumbnail(image)} for image in images],
    )
