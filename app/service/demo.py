"""The collection that a new service starts with, so that there is something to query."""

from __future__ import annotations

import numpy as np
import structlog
from sqlalchemy import insert, select

from app.database.tables import demo
from app.datasets.catalog import load_dataset
from app.datasets.thumbnails import thumbnail
from app.service.service import Service
from index import Unavailable

NAME = "demo"
N_BITS = 128

log = structlog.stdlib.get_logger("bitcell")


def make_demo(service: Service) -> None:
    """Create the collection `demo` at the first start in a data directory.

    It holds 1,797 scanned digits as GIST descriptors, encoded by `lsh`. Of the methods without
    training, that one ranks them best. The demo is created once: after it has been dropped, it
    is not created again.
    """
    try:
        with service.state.locked("demo"):
            _make(service)
    except (OSError, Unavailable) as error:  # Such as a full disk, which is no reason not to start.
        log.warning("no demo is created: the next start tries again", error=str(error))


def _make(service: Service) -> None:
    states = [state for (state,) in service.state.read(select(demo.c.state))]
    if "done" in states or not service.settings.demo:
        return
    if "begun" not in states and NAME in _names(service):
        log.warning(f"no demo is created: an encoder or a collection {NAME!r} exists already")
        return
    if "begun" not in states:
        _record(service, "begun")
    _fill(service)
    _record(service, "done")


def _names(service: Service) -> set[str]:
    encoders, collections = service.encoders.list(), service.collections.list()
    return {encoder.name for encoder in encoders} | {one.name for one in collections}


def _record(service: Service, state: str) -> None:
    with service.state.writing() as execute:
        execute(insert(demo).values(state=state))


def _fill(service: Service) -> None:
    log.info(f"first start: creating the collection {NAME!r} from 1,797 scanned digits")
    digits = load_dataset("digits", images=True)
    # An interrupted start may have created a part of this.
    if NAME not in [encoder.name for encoder in service.encoders.list()]:
        service.encoders.create(NAME, "lsh", N_BITS, {}, descriptors=digits.descriptors)
    if NAME not in [collection.name for collection in service.collections.list()]:
        service.collections.create(NAME, NAME)
    images = digits.images if digits.images is not None else np.empty((0, 8, 8, 3), np.uint8)
    service.collections.upsert(
        NAME,
        digits.ids.tolist(),
        digits.descriptors,
        digits.labels,
        [{"thumbnail": thumbnail(image)} for image in images],
    )
