"""Request bodies, JSON or npy: read on the event loop, parsed off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from app.http import npy
from app.http.problems import UnsupportedMedia

JSON = "application/json"
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Raw:
    """The bytes of a body and what they are said to be."""

    data: bytes
    media_type: str
    accept: str

    @property
    def is_npy(self) -> bool:
        """Whether the body is npy; UnsupportedMedia where it is neither that nor JSON."""
        if self.media_type not in (JSON, npy.MEDIA_TYPE):
            raise UnsupportedMedia(
                f"expected Content-Type {JSON} or {npy.MEDIA_TYPE}, got {self.media_type!r:.80}"
            )
        return self.media_type == npy.MEDIA_TYPE

    @property
    def wants_npy(self) -> bool:
        """Whether the answer is to be npy: asked for, or like the body where nothing is said."""
        like_body = self.accept in ("", "*/*") and self.media_type == npy.MEDIA_TYPE
        return npy.MEDIA_TYPE in self.accept or like_body

    @property
    def is_image(self) -> bool:
        """Whether the body is an image file; which kind of one, the file itself says."""
        return self.media_type.startswith("image/")

    def parse(self, model: type[Model]) -> Model:
        """The body as JSON of a model; UnsupportedMedia where it is something else."""
        if self.media_type != JSON:
            raise UnsupportedMedia(f"expected Content-Type {JSON}, got {self.media_type!r:.80}")
        try:
            return model.model_validate_json(self.data)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None


async def raw_body(request: Request) -> Raw:
    """The body, read but not parsed: the handlers run in threads and parse there."""
    header = request.headers.get("content-type", "")
    return Raw(
        await request.body(),
        header.partition(";")[0].strip().lower(),
        request.headers.get("accept", ""),
    )


def npy_response(array: Any) -> Response:
    """A matrix as an npy body."""
    return Response(npy.write_array(array), media_type=npy.MEDIA_TYPE)


def parse_url(model: type[Model], given: dict[str, str]) -> Model:
    """The parameters of a URL as a model."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(found) from None


def in_url(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The OpenAPI parameters of a handler that parses its own URL."""
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
    """The OpenAPI part of a handler that parses its own body."""
    content: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    if npy_description is not None:
        content[npy.MEDIA_TYPE] = {
            "schema": {"type": "string", "format": "binary", "description": npy_description}
        }
    if images:
        file = {"schema": {"type": "string", "format": "binary"}}
        content |= dict.fromkeys(IMAGES, file)
    return {"requestBody": {"required": True, "content": content}}
