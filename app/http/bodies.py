"""Request bodies: JSON, npy or images. They are read on the event loop and parsed in threads."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from app.http import npy
from app.http.problems import UnsupportedMedia
from app.http.schemas.fields import fields_at
from app.service.room import LimitedFile
from hashing import InvalidInput

JSON = "application/json"
FILE = "application/octet-stream"
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {FILE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""OpenAPI request body of a handler that takes a file."""
MARKS = b"[]{}:,"
"""The structural characters of JSON."""
MARK_BYTES = 80
"""Memory that each of them stands for. A short number takes this much while it is parsed."""
WIDE_BYTES = 5
"""Memory for a byte of text that is not plain: as a `str` a character may take four bytes."""
WRITTEN_BYTES = 1 << 20
"""Bytes of a body that are written to a file at a time: each write costs a change of threads."""
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
MAX_ERRORS = 1000
"""Largest number of errors that are taken apart: unknown fields, since all else stops at the first.
Each takes a kilobyte, and a body can have millions."""
_NAME = re.compile(rb'"[ \t\r\n]*:')
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Raw:
    """The bytes of a body, its media type and the `Accept` header."""

    data: bytes
    media_type: str
    accept: str

    @property
    def is_npy(self) -> bool:
        """Whether the body is npy; raise UnsupportedMedia if it is neither npy nor JSON."""
        if self.media_type not in (JSON, npy.MEDIA_TYPE):
            raise UnsupportedMedia(
                f"expected Content-Type {JSON} or {npy.MEDIA_TYPE}, got {self.media_type!r:.80}"
            )
        return self.media_type == npy.MEDIA_TYPE

    @property
    def wants_npy(self) -> bool:
        """Whether to answer in npy: if `Accept` names it, or names nothing and the body is npy."""
        like_body = self.accept in ("", "*/*") and self.media_type == npy.MEDIA_TYPE
        return npy.MEDIA_TYPE in self.accept or like_body

    @property
    def is_image(self) -> bool:
        """Whether the body is an image file; its format is read from the file itself."""
        return self.media_type.startswith("image/")

    def parse(self, model: type[Model]) -> Model:
        """Parse a JSON body as a model; raise UnsupportedMedia if it is not JSON."""
        if self.media_type != JSON:
            raise UnsupportedMedia(f"expected Content-Type {JSON}, got {self.media_type!r:.80}")
        try:
            found = model.model_validate_json(self.data)
        except ValidationError as error:
            if (count := error.error_count()) > MAX_ERRORS:
                raise InvalidInput(
                    f"expected the fields of this call, got {count} wrong or unknown ones"
                ) from None
            raise RequestValidationError(_with_fields(error, model)) from None
        _check_filter(self.data, found)
        return found


async def raw_body(request: Request) -> Raw:
    """Read the body without parsing it: handlers run in threads and parse it there."""
    headers = request.headers
    return Raw(await request.body(), media_type(headers), headers.get("accept", ""))


async def write_body(request: Request, file: LimitedFile) -> None:
    """Write the body to a file as it arrives."""
    waiting = bytearray()
    async for part in request.stream():
        waiting += part
        if len(waiting) >= WRITTEN_BYTES:
            await run_in_threadpool(file.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(file.write, bytes(waiting))


def media_type(headers: Headers) -> str:
    """Return the media type of a body without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def json_memory(part: bytes) -> int:
    """Return about how much memory a part of a JSON body takes, with what it is parsed into."""
    marks = len(part) - len(part.translate(None, MARKS))
    # The first test for a backslash is the faster one.
    is_wide = not part.isascii() or (b"\\" in part and b"\\u" in part)
    return len(part) * (WIDE_BYTES if is_wide else 1) + MARK_BYTES * marks


def attachment(name: str) -> dict[str, str]:
    """Return the header by which browsers save an answer as a file of this name."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}


def npy_response(array: Any) -> Response:
    """Return an array as an npy response."""
    return Response(npy.write_array(array), media_type=npy.MEDIA_TYPE)


def parse_url(model: type[Model], parameters: dict[str, str]) -> Model:
    """Parse the parameters of a URL as a model."""
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        errors = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(errors) from None


def _check_filter(data: bytes, body: BaseModel) -> None:
    """Raise InvalidInput if a body with a filter gives a name twice in one object.

    Parsers keep the last one: without the other condition, more items would match and be deleted.
    """
    condition = getattr(body, "filter", None)
    # A text such as "\":" looks like a name too: then the body is parsed once more.
    if condition is None or len(_NAME.findall(data)) == len(body.model_fields_set) + _names(
        condition
    ):
        return
    json.loads(data, object_pairs_hook=_distinct, parse_float=lambda _: 0, parse_int=lambda _: 0)


def _names(condition: Any) -> int:
    """Count the names in a filter. A list of values, which may be long, has none."""
    if isinstance(condition, dict):
        return len(condition) + sum(map(_names, condition.values()))
    if isinstance(condition, list) and condition and isinstance(condition[0], dict | list):
        return sum(map(_names, condition))
    return 0


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidInput(
                f"{name!r:.80} is given twice in one object, of which one would be lost: join the "
                'conditions, as in {"price": {"gte": 1, "lt": 5}}, or list them under "and"'
            )
        seen.add(name)


def _with_fields(error: ValidationError, model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the errors; those of unknown fields with the fields that there are."""
    return [
        {**each, "fields": fields_at(model, each["loc"][:-1])}
        if each["type"] == "extra_forbidden"
        else dict(each)
        for each in error.errors()
    ]


def in_url(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the OpenAPI parameters of a handler that parses the URL itself."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in model.model_json_schema()["properties"].items()
    ]


def takes(
    model: type[BaseModel], npy_description: str | None = None, *, images: bool = False
) -> dict[str, Any]:
    """Return the OpenAPI request body of a handler that parses the body itself.

    Parameters
    ----------
    model : type
        Schema of the JSON body.
    npy_description : str, optional
        Describes the npy body, if the handler takes one.
    images : bool
        Whether the handler takes image files.
    """
    content: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    if npy_description is not None:
        content[npy.MEDIA_TYPE] = {
            "schema": {"type": "string", "format": "binary", "description": npy_description}
        }
    if images:
        file = {"schema": {"type": "string", "format": "binary"}}
        content |= dict.fromkeys(IMAGES, file)
    return {"requestBody": {"required": True, "content": content}}
