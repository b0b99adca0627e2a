"""The process of one benchmark that the service runs: it loads neither FastAPI nor Faiss."""

from __future__ import annotations

import json
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from app.benchmark.datasets import load_dataset
from app.benchmark.measure import Row
from app.benchmark.protocol import Protocol
from app.benchmark.report import render
from app.benchmark.run import run


def work(
    out: Connection,
    data_dir: Path,
    dataset: str,
    table: list[Row],
    protocol: Protocol,
    seeds: list[int],
) -> None:
    """The process of one benchmark: progress and the outcome go back through `out`."""
    outcome: tuple[str, str | None, str | None, str | None]

    def progress(done: int, of: int, now: str) -> None:
        out.send({"done": done, "of": of, "now": now})

    try:
        loaded = load_dataset(dataset, data_dir, images=True)
        result = run(loaded, table, protocol, seeds, progress)
        page = render(result, loaded)
    except BrokenPipeError:
        return  # The service is gone, and nobody waits for this.
    except (ValueError, MemoryError) as error:
        outcome = ("failed", None, str(error) or type(error).__name__, None)
    else:
        outcome = ("done", json.dumps(result), None, page)
    with suppress(BrokenPipeError):
        out.send(outcome)
