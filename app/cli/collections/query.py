"""`bitcell query`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import KeyFileOption, KeyOption, UrlOption, finite, json_filter

if TYPE_CHECKING:
    from app.cli.running_service import RunningService
    from app.http.schemas import NeighbourOut, QueryOut


def query(
    collection: Annotated[str, typer.Argument(help="The collection to search.")],
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="An item to find neighbours of.")
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option("--image", help="An image file, described with GIST.")
    ] = None,
    codes: Annotated[list[str] | None, typer.Option("--code", help="A code in hex.")] = None,
    descriptors: Annotated[
        Path | None, typer.Option(help="An .npy file of descriptors, (n, d).")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", "--k", help="Neighbours per query.", min=1)] = None,
    radius: Annotated[
        int | None, typer.Option(help="Largest Hamming distance of a neighbour.", min=0)
    ] = None,
    false_match_rate: Annotated[
        float | None,
        typer.Option(help="Instead of --radius: one at which so few unrelated pairs match."),
    ] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Show the angle that each distance means.")
    ] = False,
    max_score: Annotated[
        float | None,
        typer.Option(help="Largest estimated distance, in a collection that ranks by estimates."),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Find each true neighbour with this probability, such as 0.99."),
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="What items must match: '{\"label\": 3}'.")
    ] = None,
    rerank: Annotated[
        int | None, typer.Option(help="Reorder this many by their kept descriptors.", min=1)
    ] = None,
    rerank_by: Annotated[
        str | None, typer.Option(help="What to reorder by: descriptors, cosine or bits.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer of the service as it is.")
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Find the nearest items in a collection of the running service.

    Give queries in one way: --id, --image and --code can be repeated.
    """
    from app.cli.collections import calls
    from app.cli.running_service import connected

    ways = {"--id": ids, "--image": images, "--code": codes, "--descriptors": descriptors}
    given = [name for name, value in ways.items() if value]
    if len(given) != 1:
        raise ValueError(f"give one of {', '.join(ways)}; got {' and '.join(given) or 'none'}")
    options = {"ids": ids, "codes": codes, "k": k, "radius": radius, "rerank": rerank}
    body: dict[str, Any] = {name: value for name, value in options.items() if value}
    others = {
        "radius": radius,
        "false_match_rate": finite("--false-match-rate", false_match_rate),
        "calibrated": calibrated or None,
        "max_score": finite("--max-score", max_score),
        "confidence": finite("--confidence", confidence),
        "rerank_by": rerank_by,
    }
    body |= {name: value for name, value in others.items() if value is not None}
    if filter_ is not None:
        body["filter"] = json_filter(filter_)
    with connected(url, key, key_file) as service:
        if found := _descriptors(service, images, descriptors):
            body["descriptors"] = found
        answer, text = calls.query(service, collection, body)
    if as_json:
        typer.echo(text)
    else:
        _print(answer, ids or [str(path) for path in images or ()] or codes)


def _descriptors(
    service: RunningService, images: list[Path] | None, file: Path | None
) -> list[list[float]]:
    import numpy as np

    from app.cli.collections.calls import describe_image
    from app.http import npy
    from hashing.validation import as_descriptors, check_finite

    if images:
        return [describe_image(service, path) for path in images]
    if file is None:
        return []
    try:
        (matrix,) = npy.read_arrays(file.read_bytes(), npy.DESCRIPTORS)
        # Before it is sent as JSON, which has neither NaN nor an empty matrix of some dimension.
        check_finite(as_descriptors(npy.not_empty(matrix, "descriptors")))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    rows: list[list[float]] = np.asarray(matrix, np.float64).tolist()
    return rows


def _print(answer: QueryOut, names: list[str] | None) -> None:
    from app.cli.collections.tables import print_table

    scored = any(near.score is not None for found in answer.results for near in found)
    calibrated = any(near.angle is not None for found in answer.results for near in found)
    headings = ["id", "distance", *["angle"] * calibrated, *["score"] * scored, "label", "payload"]
    for i, (found, certificate) in enumerate(zip(answer.results, answer.certificates, strict=True)):
        if len(answer.results) > 1:
            typer.echo(f"{'' if i == 0 else chr(10)}{names[i] if names else f'query {i}'}:")
        rows = [
            (
                near.id,
                f"{near.distance}",
                *([_angle(near)] * calibrated),
                *([f"{near.score:.6g}" if near.score is not None else ""] * scored),
                "" if near.label is None else f"{near.label}",
                "" if near.payload is None else json.dumps(near.payload, ensure_ascii=False),
            )
            for near in found
        ]
        print_table(headings, rows, right="distance angle score label")
        if certificate.truncated:
            limit = "radius" if certificate.ranking is None else "largest score"
            typer.echo(
                f"{certificate.within:,} items are within the {limit}; these are the nearest"
            )
        if certificate.confidence is not None:
            typer.echo(
                f"each true neighbour is found with probability {certificate.confidence:g}; "
                f"{certificate.reranked:,} items were compared"
            )
    _print_meaning(answer)


def _angle(near: NeighbourOut) -> str:
    """Return the angle of a neighbour with its interval, in degrees."""
    if near.angle is None or near.angle_low is None or near.angle_high is None:
        return ""
    angle, low, high = map(math.degrees, (near.angle, near.angle_low, near.angle_high))
    return f"{angle:.0f}° ({low:.0f}° to {high:.0f}°)"


def _print_meaning(answer: QueryOut) -> None:
    """Print what the angles and the radius rest on: for each query the same."""
    if not answer.certificates:
        return
    first = answer.certificates[0]
    if (of := first.calibration) is not None:
        source = f"{of.pairs:,} pairs" if of.pairs else "the law of random hyperplanes"
        typer.echo(f"angles: {of.level:.0%} intervals, from {source}")
    if (matches := first.false_matches) is not None:
        kind = "pairs with different labels" if matches.unrelated == "labels" else "random pairs"
        typer.echo(
            f"radius {matches.radius}: at most {matches.bound:.2g} of unrelated pairs match, from "
            f"{matches.pairs:,} {kind}"
        )
