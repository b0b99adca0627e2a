"""`bitcell label-next`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import DatasetOption, check_output, load_settings

if TYPE_CHECKING:
    from app.datasets.dataset import Dataset
    from app.explain.gain import Gain


def label_next(
    dataset: DatasetOption,
    count: Annotated[int, typer.Option("-n", "--count", help="Items to propose.")] = 20,
    measure: Annotated[
        bool,
        typer.Option(
            help="Also hide the labels that there are, and measure what such a choice gains over "
            "a random one."
        ),
    ] = False,
    method: Annotated[
        str, typer.Option(help="With --measure: the method that learns from the labels.")
    ] = "sdh",
    bits: Annotated[int, typer.Option(help="With --measure: the code length.")] = 32,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this .json file.")
    ] = None,
) -> None:
    """Propose which items without a label (-1) to label next, one id a line.

    They are far from the labelled items and from each other; those near the boundary of two
    classes come first. Outliers are left out.
    """
    from dataclasses import asdict

    from app.datasets.catalog import load_dataset
    from hashing.theory.labels import label_next as choose

    if json_file is not None:
        check_output(json_file, ".json")
    if measure:
        _check_method(method, bits)
    loaded = load_dataset(dataset, load_settings().files_dir)
    labels = loaded.one_label_each("label-next")
    result: dict[str, Any] = {"dataset": loaded.name}
    # The proposals come first: the measurement takes longer, and asks for more labels.
    if (labels < 0).any() or not measure:
        proposed = choose(loaded.descriptors, labels, count)
        result["items"] = [str(loaded.ids[i]) for i in proposed]
        _write(result, json_file)
        for item in result["items"]:
            typer.echo(item)
    if measure:
        gain = _measured(loaded, count, method, bits)
        _write(result | {"gain": asdict(gain) | {"method": method, "n_bits": bits}}, json_file)
        typer.echo(_in_words(gain, method, bits), err=True)


def _check_method(method: str, bits: int) -> None:
    from hashing import HASHERS, make_hasher
    from hashing.base import MAX_BITS
    from hashing.validation import check_int

    make_hasher(method)
    if not HASHERS[method].needs_labels:
        raise ValueError(f"{method} does not learn from labels; choose for instance sdh or ksh")
    check_int("n_bits", bits, 1, MAX_BITS)


def _measured(dataset: Dataset, count: int, method: str, bits: int) -> Gain:
    from app.cli.progress import progress_bar
    from app.explain.gain import measure_gain

    with progress_bar(None) as update:
        return measure_gain(dataset, count, method=method, n_bits=bits, progress=update)


def _write(result: dict[str, Any], json_file: Path | None) -> None:
    import json

    from hashing.atomic_file import atomic_write

    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(result, indent=2) + "\n").encode())


def _in_words(gain: Gain, method: str, bits: int) -> str:
    difference = gain.difference
    return (
        f"With {gain.n_before:,} random labels and {gain.n_new:,} more, {method} at {bits} bits "
        f"has a mAP of {100 * gain.chosen.value:.1f} % if they are chosen, and of "
        f"{100 * gain.random.value:.1f} % if they are random: a difference of "
        f"{100 * difference.value:+.1f} points (95 % interval {100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f})."
    )
