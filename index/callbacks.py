"""The callbacks with which a caller follows long work, and may end it by raising."""

from __future__ import annotations

from collections.abc import Callable

Checkpoint = Callable[[], None]
"""Called between the steps of long work, in any thread."""

Count = Callable[[int], None]
"""Called with the bytes of parts of an answer, about as they are in JSON, before it is made."""
