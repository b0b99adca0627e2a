"""Checks that several parts of the service make on a request, and on the size of its answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from app.errors import TooLarge, Unready
from app.service.settings import Settings
from hashing import InvalidInput
from index import SearchOptions
from index.backend import Capabilities, Collection


def check_batch(size: int, settings: Settings) -> None:
    """Raise TooLarge if a request has more than BITCELL_MAX_BATCH descriptors, items or ids."""
    if size > settings.max_batch:
        raise TooLarge(
            f"a request has at most {settings.max_batch} descriptors or items "
            f"(BITCELL_MAX_BATCH); this one has {size}"
        )


def check_write(size: int, settings: Settings, capabilities: Capabilities) -> None:
    """Do what `check_batch` does for a write; raise TooLarge if the index takes fewer items."""
    check_batch(size, settings)
    if capabilities.batch is not None and size > capabilities.batch:
        raise TooLarge(
            f"the index takes at most {capabilities.batch} items in a write; this one has {size}"
        )


def check_suits(collection: Collection, options: SearchOptions) -> None:
    """Raise InvalidInput if a collection that ranks by the Hamming distance has no such search."""
    if collection.metric is not None:
        return
    if options.max_score is not None:
        raise InvalidInput(
            f"collection {collection.name!r} ranks by the Hamming distance: radius takes the place "
            "of max_score"
        )
    if options.confidence is not None and (options.where, options.radius) != (None, None):
        raise InvalidInput(
            f"collection {collection.name!r} ranks by the Hamming distance: confidence is "
            "measured on all of its items, so it goes without filter and radius"
        )


class Rewriting:
    """The bytes that one request writes again, although they are not in the request.

    All other writes wait for it, as they do for a large body.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit = int(settings.max_body)
        self._bytes = 0

    def __call__(self, n_bytes: int) -> None:
        """Count more bytes; raise TooLarge if they are more than BITCELL_MAX_BODY in all."""
        self._bytes += n_bytes
        if self._bytes > self._limit:
            raise TooLarge(
                "the payloads and descriptors of these items have more than "
                f"{self._limit} bytes (BITCELL_MAX_BODY): change fewer items in one request"
            )


class Answers:
    """The answers that a service is putting together. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.max_answer = int(settings.max_answer)
        self._max_bytes = max(int(settings.max_bodies), self.max_answer)
        self._bytes = 0
        self._lock = Lock()

    @contextmanager
    def counted(self, advice: str) -> Iterator[Size]:
        """Lend the size of one answer, which is put together in the block.

        `advice` says what to ask for instead of an answer that is too large.
        """
        size = Size(self, advice)
        try:
            yield size
        finally:
            size.restart()

    def add(self, n_bytes: int) -> None:
        """Count bytes of any answer; raise Unready beyond the limit."""
        with self._lock:
            self._bytes += n_bytes
            is_too_much = n_bytes > 0 and self._bytes > self._max_bytes
        if is_too_much:
            raise Unready(
                f"the answers that are being put together exceed {self._max_bytes} bytes "
                "(BITCELL_MAX_BODIES): try again later"
            )


class Size:
    """The bytes of one answer, about as they are in JSON."""

    def __init__(self, answers: Answers, advice: str) -> None:
        self._answers = answers
        self._advice = advice
        self._bytes = 0

    def __call__(self, n_bytes: int) -> None:
        """Count more bytes.

        Raise TooLarge if the answer has more than BITCELL_MAX_ANSWER bytes, and Unready if all
        answers that are being put together have more than BITCELL_MAX_BODIES.
        """
        if self._bytes + n_bytes > self._answers.max_answer:
            raise TooLarge(
                f"an answer has at most {self._answers.max_answer} bytes (BITCELL_MAX_ANSWER); "
                f"this one would have more: {self._advice}"
            )
        self._bytes += n_bytes
        self._answers.add(n_bytes)

    def restart(self) -> None:
        """Count from zero."""
        self._answers.add(-self._bytes)
        self._bytes = 0
