"""What the commands share: options, settings, and checks of what the user typed."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.service.settings import Settings

DatasetOption = Annotated[
    str,
    typer.Option(
        help="`digits`, a fetched dataset such as `cifar10`, or the path of a file: npz, npy, "
        "fvecs, bvecs, ivecs, HDF5 or parquet."
    ),
]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        help="`gist` if the descriptors are GIST: nets then also learn from the mirror images."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the random generator.")]

UrlOption = Annotated[
    str | None,
    typer.Option(
        help="URL of a running service that owns the data directory (default: what it noted there)."
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        help="A key of the service; with --url, its data directory may be elsewhere. Other users "
        "of this machine can see it in the list of processes: --key-file does not show it."
    ),
]
KeyFileOption = Annotated[
    Path | None, typer.Option(help="A file that holds such a key; - for standard input.")
]

chosen: dict[str, Any] = {"data_dir": None}
"""Settings that were chosen before the name of the command, None where they were not."""


def load_settings(**options: Any) -> Settings:
    """Return the settings from the environment, overridden by the options that are not None.

    Raises
    ------
    ValueError
        A setting or an option is invalid, or a `BITCELL_*` variable is not a setting.
    """
    from pydantic import ValidationError

    from app.service.settings import PREFIX, Settings, known_variables, unknown_variables

    given = {name: value for name, value in (chosen | options).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = f"--{field.replace('_', '-')}" if field in given else PREFIX + field.upper()
        raise ValueError(f"{name}: {first['msg']}; got {first['input']!r}") from None
    if unknown := unknown_variables():
        names = ", ".join(known_variables())
        raise ValueError(f"{', '.join(unknown)}: there is no such setting; there are {names}")
    return settings


def check_settings(settings: Settings) -> None:
    """Raise ValueError if the data directory holds no data although the settings put some there."""
    if settings.has_record:
        check_data(settings.data_dir)


def check_data(data_dir: Path) -> None:
    """Raise ValueError if the data directory holds no data, so that nothing is created there."""
    if not (data_dir / "bitcell.db").is_file():
        raise ValueError(f"{data_dir} holds no data: is BITCELL_DATA_DIR set, or --data-dir?")


def chosen_key(key: str | None, file: Path | None) -> str | None:
    """Return the key of `--key` or of the file of `--key-file`; None if there is neither.

    Raises
    ------
    ValueError
        There are both, or what was given cannot be a key. The message does not show it.
    """
    if key is not None and file is not None:
        raise ValueError("give --key or --key-file, not both")
    if file is not None:
        try:
            key = (sys.stdin.read() if str(file) == "-" else file.read_text()).strip()
        except UnicodeDecodeError:
            raise ValueError(f"{file} is no text: expected a file with one key") from None
    source = "--key" if file is None else file
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"{source}: expected one key, which has printable characters and no space")
    return key


def split(text: str) -> list[str]:
    """Split a comma-separated list; spaces around entries and empty entries are dropped."""
    return [part.strip() for part in text.split(",") if part.strip()]


def json_filter(text: str) -> dict[str, Any]:
    """Return the filter of `--filter`; ValueError unless it is a JSON object.

    `null` would be the same as no filter, and so match everything.
    """
    import json

    try:
        found = json.loads(
            text,
            parse_constant=_no_number,
            parse_float=_finite_number,
            object_pairs_hook=_distinct_names,
        )
    except ValueError as error:
        raise ValueError(f"--filter takes JSON, got {text!r:.80}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(
            f"--filter takes a JSON object such as '{{\"label\": 3}}', got {text!r:.80}"
        )
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite_number(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text} is too large")
    return number


def _distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python would keep the last one, so that the condition of the first is lost.
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{twice!r} is given twice in one object; join the conditions: "
            '\'{"price": {"gte": 1, "lt": 5}}\', or put them into a list with "and"'
        )
    return found


def finite(option: str, value: float | None) -> float | None:
    """Return the value of an option; ValueError, naming the option, for NaN and infinity."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{option} takes a finite number, got {value}")
    return value


def integers(option: str, text: str) -> list[int]:
    """Split a comma-separated list of integers; ValueError, naming the option, for others."""
    try:
        return [int(part) for part in split(text)]
    except ValueError:
        raise ValueError(f"{option} takes whole numbers, got {text!r}") from None


def check_output(path: Path, *suffixes: str) -> Path:
    """Return the path of an output file; ValueError, before any work, if it cannot be written."""
    if path.suffix not in suffixes:
        raise ValueError(f"expected a file name that ends in {' or '.join(suffixes)}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"the folder {path.parent} cannot be written to")
    return path
