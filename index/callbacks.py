"""The callbacks with which a caller follows long work, and may end it by raising."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Checkpoint = Callable[[], None]
"""Called between the steps of long work, in any thread."""

Count = Callable[[int], None]
"""Called with the bytes of parts of an answer, about as they are in JSON, before it is made."""

Rewritten = Callable[[sqlite3.Connection, NDArray[np.int64], NDArray[np.int64]], None]
"""Called in the transaction of a patch with the serial numbers that items had, and the consecutive
ones that they get. What it writes is committed with the patch. It must not change memory."""
