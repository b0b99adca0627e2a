"""The calls of these commands."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from app.cli.running_service import Refused, RunningService
from app.http import npy
from app.http.schemas import CollectionOut, DescriptorsOut, EncoderOut, QueryOut, Upserted

_COLLECTIONS = TypeAdapter(list[CollectionOut])

OPTIONS = {
    "encoder": "--encoder",
    "n_bits": "--bits",
    "ranking": "--ranking",
    "metric": "--metric",
    "keep_descriptors": "--keep-descriptors",
}
"""The options of `bitcell load` that create a collection, by the fields of the call."""


def list_collections(service: RunningService) -> list[CollectionOut]:
    """Return all collections, by name."""
    return _COLLECTIONS.validate_json(service.send("GET", "collections").content)


def show_collection(service: RunningService, name: str) -> CollectionOut:
    """Return one collection; ValueError if there is none of this name."""
    return CollectionOut.model_validate_json(service.send("GET", "collections", name).content)


def show_encoder(service: RunningService, name: str) -> EncoderOut:
    """Return one encoder; ValueError if there is none of this name."""
    try:
        return EncoderOut.model_validate_json(service.send("GET", "encoders", name).content)
    except Refused as error:
        if error.status != 404:
            raise
        raise ValueError(
            f"{error}; to give its file to the service: "
            f"`curl -T {name}.safetensors {service.url}/v1/encoders/{name}`"
        ) from None


def create_collection(service: RunningService, new: dict[str, Any]) -> None:
    """Create an empty collection; ValueError if there is one of this name."""
    try:
        service.send("POST", "collections", json=new)
    except Refused as error:
        if error.status != 409:
            raise
        options = ", ".join(OPTIONS[name] for name in new if name != "name")
        raise ValueError(f"{error}; to load into it, leave out {options}") from None


def drop_collection(service: RunningService, name: str) -> None:
    """Delete a collection with its items."""
    service.send("DELETE", "collections", name)


def upsert(
    service: RunningService,
    name: str,
    *arrays: NDArray[Any],
    payloads: list[dict[str, Any]] | None = None,
    fingerprint: str | None = None,
) -> int:
    """Insert or replace items, and return how many there are now.

    The arrays are descriptors or codes, ids, and labels if there are any. With payloads or with
    the fingerprint of their encoder, they are codes.
    """
    path = ("collections", name, "items")
    parameters = {} if fingerprint is None else {"fingerprint": fingerprint}
    if payloads is not None:
        codes, ids, *labels = (array.tolist() for array in arrays)
        columns = {
            "id": map(str, ids),
            "code": [bytes(code).hex() for code in codes],
            "payload": payloads,
            **({"label": labels[0]} if labels else {}),
        }
        items = [
            dict(zip(columns, item, strict=True)) for item in zip(*columns.values(), strict=True)
        ]
        answer = service.send("PUT", *path, json={"items": items}, params=parameters)
        return Upserted.model_validate_json(answer.content).items
    body = io.BytesIO()
    for array in arrays:
        np.save(body, array, allow_pickle=False)
    if fingerprint is not None:
        parameters["holds"] = "codes"
    headers = {"Content-Type": npy.MEDIA_TYPE}
    answer = service.send("PUT", *path, content=body.getvalue(), headers=headers, params=parameters)
    return Upserted.model_validate_json(answer.content).items


def describe_image(service: RunningService, image: Path) -> list[float]:
    """Return the GIST descriptor of an image file; ValueError, naming the file, if it has none."""
    file = base64.b64encode(image.read_bytes()).decode()
    try:
        answer = service.send("POST", "gist", json={"images": [file]})
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from None
    return DescriptorsOut.model_validate_json(answer.content).descriptors[0]


def query(service: RunningService, name: str, body: dict[str, Any]) -> tuple[QueryOut, str]:
    """Return the answer to a query, and its text."""
    answer = service.send("POST", "collections", name, "query", json=body)
    return QueryOut.model_validate_json(answer.content), answer.text
