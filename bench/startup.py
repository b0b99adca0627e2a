"""A service with the demo: how soon it is ready, and how much memory it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measuring import resident_mb
from bench.service import ServiceProcess


def measure() -> dict[str, float]:
    """Return the seconds until the first and a later start are ready, and the MB of the latter."""
    with tempfile.TemporaryDirectory() as folder:
        first_start, _ = _start(Path(folder))
        ready, memory = _start(Path(folder))
    return {"first_start_seconds": first_start, "ready_seconds": ready, "resident_mb": memory}


def _start(folder: Path) -> tuple[float, float]:
    service = ServiceProcess(folder, demo=True)
    try:
        return service.ready_seconds, resident_mb(service.process.pid)
    finally:
        service.stop()
