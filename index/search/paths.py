"""How many queries this process has answered by tables and by scans."""

from __future__ import annotations

from threading import Lock

_lock = Lock()
_counts = {"tables": 0, "scan": 0}


def count(*, tables: int = 0, scan: int = 0) -> None:
    """Count queries that were answered."""
    with _lock:
        _counts["tables"] += tables
        _counts["scan"] += scan


def searches_by_path() -> dict[str, int]:
    """Return the number of queries since the process started, by `tables` and `scan`."""
    return dict(_counts)
