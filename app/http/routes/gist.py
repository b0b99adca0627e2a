"""The route that computes GIST descriptors of image files."""

from __future__ import annotations

import asyncio

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic_core import to_json

from app.http import schemas
from app.http.bodies import JSON, npy_response, raw_body, takes
from app.http.problems import UnsupportedMedia
from app.service.service import Service

# That of `Gist()`, whose filters take a while to make.
IMAGE_DIMENSION = 384
# At most, of a number in JSON.
_NUMBER_BYTES = 24

router = APIRouter(prefix="/v1/gist", tags=["images"])


@router.post(
    "",
    response_model=schemas.DescriptorsOut,
    responses={200: {"content": {"application/x-npy": {"schema": {"type": "string"}}}}},
    openapi_extra=takes(schemas.Images, images=True),
)
async def describe_images(request: Request) -> Response:
    """Compute the GIST descriptors, 384 numbers each, of one image file or of several in base64.

    The answer is JSON, or npy if the `Accept` header asks for it.
    """
    service: Service = request.app.state.service
    body, loop = await raw_body(request), asyncio.get_running_loop()
    if body.is_image:
        files = [body.data]
    elif body.media_type != JSON:
        raise UnsupportedMedia(
            f"expected Content-Type {JSON} or an image type, got {body.media_type!r:.80}"
        )
    else:
        files = (await loop.run_in_executor(service.query_pool, body.parse, schemas.Images)).images
    with service.answers.counted("send fewer images in one request") as size:
        size(len(files) * IMAGE_DIMENSION * (4 if body.wants_npy else _NUMBER_BYTES))
        descriptors = await loop.run_in_executor(service.image_pool, service.describe_images, files)
        if body.wants_npy:
            return npy_response(descriptors)
        answer = await loop.run_in_executor(service.query_pool, _json, descriptors)
        return Response(answer, media_type=JSON)


def _json(descriptors: NDArray[np.float32]) -> bytes:
    # Python floats, so that parsing the JSON gives each float32 back exactly.
    return to_json({"descriptors": descriptors.tolist()})
