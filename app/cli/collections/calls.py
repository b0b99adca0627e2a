"""The calls of these commands."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from app.cli.running_service import RunningService
from app.http import npy
from app.http.schemas import CollectionOut, DescriptorsOut, EncoderOut, QueryOut, Upserted

_COLLECTIONS = TypeAdapter(list[CollectionOut])


def list_collections(service: RunningService) -> list[CollectionOut]:
    """Return all collections, by name."""
    return _COLLECTIONS.validate_json(service.send("GET", "collections").content)


def show_collection(service: RunningService, name: str) -> CollectionOut:
    """Return one collection; ValueError if there is none of this name."""
    return CollectionOut.model_validate_json(service.send("GET", "collections", name).content)


def show_encoder(service: RunningService, name: str) -> EncoderOut:
    """Return one encoder; ValueError if there is none of this name."""
    return EncoderOut.model_validate_json(service.send("GET", "encoders", name).content)


def create_collection(service: RunningService, new: dict[str, Any]) -> None:
    """Create an empty collection."""
    service.send("POST", "collections", json=new)


def drop_collection(service: RunningService, name: str) -> None:
    """Delete a collection with its items."""
    service.send("DELETE", "collections", name)


def upsert(service: RunningService, name: str, *arrays: NDArray[Any]) -> int:
    """Insert or replace items, and return how many there are now."""
    body = io.BytesIO()
    for array in arrays:
        np.save(body, array, allow_pickle=False)
    headers = {"Content-Type": npy.MEDIA_TYPE}
    path = ("collections", name, "items")
    answer = service.send("PUT", *path, content=body.getvalue(), headers=headers)
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
