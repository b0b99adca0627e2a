"""Checks that several parts of the service make on a request."""

from __future__ import annotations

from pathlib import Path

from app.datasets.catalog import UnknownDataset, known_datasets
from app.errors import TooLarge
from app.service.settings import Settings


def check_batch(size: int, settings: Settings) -> None:
    """Raise TooLarge if a request has more than BITCELL_MAX_BATCH descriptors, items or ids."""
    if size > settings.max_batch:
        raise TooLarge(
            f"a request has at most {settings.max_batch} descriptors or items "
            f"(BITCELL_MAX_BATCH); this one has {size}"
        )


def check_answer(size: int, settings: Settings, advice: str) -> None:
    """Raise TooLarge if an answer would have more than BITCELL_MAX_ANSWER bytes."""
    if size > settings.max_answer:
        raise answer_too_large(settings, advice)


def answer_too_large(settings: Settings, advice: str) -> TooLarge:
    """Return the error for an answer of too many bytes; `advice` says what to ask for instead."""
    return TooLarge(
        f"an answer has at most {int(settings.max_answer)} bytes (BITCELL_MAX_ANSWER); this one "
        f"would have more: {advice}"
    )


def check_dataset(name: str, data_dir: Path) -> None:
    """Raise UnknownDataset unless `name` is the name of a dataset. A path is never one."""
    known = known_datasets(data_dir)
    if name not in known:
        raise UnknownDataset(f"there is no dataset {name!r:.80}; there are {', '.join(known)}")
