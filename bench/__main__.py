"""Run every benchmark that has a bound; print the figures, and fail where a bound is missed."""

from __future__ import annotations

import sys
from functools import cache

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import (
    collection,
    duplicates,
    encode,
    encode_files,
    gist,
    index,
    latency,
    load,
    precision,
    startup,
    writes,
)

# What is measured, by which function, which of its figures is bounded, and the bound.
CHECKS = (
    ("encode / bare product, 48 bits", encode.measure, "ratio", ">=", 0.75),
    ("encode / bare products, net-2", encode.measure_net, "ratio", ">=", 0.7),
    ("encode from parquet / in memory", encode_files.rate, "ratio", ">=", 0.15),
    ("encode from parquet / in memory, net-2", encode_files.rate_of_net, "ratio", ">=", 0.15),
    ("wrong codes of a million rows from parquet", encode_files.memory, "wrong", "<=", 0.0),
    ("memory to encode a million rows from parquet", encode_files.memory, "added_mb", "<=", 200.0),
    ("GIST / one inverse FFT per filter", gist.measure, "ratio", ">=", 3.0),
    ("mAP, 1,000 x 59,000 codes", precision.measure, "seconds", "<=", 5.0),
    ("clustered codes / Faiss flat", index.clustered_codes, "ratio", ">=", 8.0),
    ("uniform codes / Faiss flat", index.uniform_codes, "ratio", ">=", 0.9),
    ("near-duplicates / Faiss range search", duplicates.measure, "ratio", ">=", 20.0),
    ("memory of near-duplicates", duplicates.measure, "peak_mb", "<=", 400.0),
    ("a million items, from disk", collection.million, "ready_seconds", "<=", 3.0),
    ("searches during writes / without", writes.measure, "ratio", ">=", 0.5),
    ("snapshot, one byte flipped", collection.snapshots, "refused", ">=", 1.0),
    ("payload filters / none, 100,000 items", collection.filters, "ratio", "<=", 10.0),
    ("start with the demo", startup.measure, "ready_seconds", "<=", 3.0),
    ("memory with the demo", startup.measure, "resident_mb", "<=", 250.0),
    ("a query over loopback - in process", latency.single, "added_ms", "<=", 1.0),
    ("1,000 queries over loopback / in process", latency.batch, "rate_share", ">=", 0.8),
    ("64 connections for 60 s", load.measure, "errors", "<=", 0.0),
    ("p99 of queries during jobs / without", latency.during_jobs, "p99_ratio", "<=", 3.0),
)


def main() -> int:
    """Print a table; return 1 if a bound was missed."""
    table = Table("measured", "figure", "bound", "details")
    failed = 0
    # Two checks may share a measurement.
    measured = cache(lambda measure: measure())
    for name, measure, key, sense, bound in CHECKS:
        figures = dict(measured(measure))
        value = figures.pop(key)
        passed = value >= bound if sense == ">=" else value <= bound
        failed |= not passed
        details = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        figure = Text(f"{key} {value:.4g}", style="green" if passed else "red")
        table.add_row(name, figure, f"{sense} {bound:g}", details)
    Console().print(table)
    return failed


if __name__ == "__main__":
    sys.exit(main())
