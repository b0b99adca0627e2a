"""A serving process with the demo: how soon it is ready, how much memory it holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure() -> dict[str, float]:
    """Seconds to ready and resident MB, of the first start and of a later one."""
    with tempfile.TemporaryDirectory() as folder:
        first, _ = _start(folder)
        ready, memory = _start(folder)
    return {"first_start_seconds": first, "ready_seconds": ready, "resident_mb": memory}


def _start(folder: str) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        env=os.environ | {"BITCELL_DATA_DIR": folder},
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr or ():
        if "Bitcell is at" in line:
            break
    ready = time.perf_counter() - start
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.terminate()
    process.communicate()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    return ready, int(resident[1]) / 1024 if resident else float("nan")
