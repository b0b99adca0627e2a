"""Routes of encoders: create, train, upload, list, show, use and drop."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import ArrayLike
from pydantic_core import to_json

from app.http import npy, schemas
from app.http.bodies import (
    FILE,
    FILE_BODY,
    JSON,
    attachment,
    in_url,
    npy_response,
    parse_url,
    takes,
)
from app.http.dependencies import BodyDep, ServiceDep
from app.service.encoder_store import Encoder
from hashing import HASHERS, InvalidInput

router = APIRouter(prefix="/v1/encoders", tags=["encoders"])
methods = APIRouter(prefix="/v1/methods", tags=["encoders"])

_TRAINING_NPY = (
    "One or two arrays that numpy.save wrote to one file: descriptors, (n, d) numbers; optionally "
    "labels, (n,) integers, -1 for none. All else is in the URL."
)
_DATA_FREE = {method for method, cls in HASHERS.items() if cls.data_free}


@router.post(
    "",
    status_code=201,
    response_model=schemas.EncoderOut,
    responses={202: {"model": schemas.Accepted, "description": "A job trains the encoder."}},
    openapi_extra=takes(schemas.NewEncoder, _TRAINING_NPY)
    | {"parameters": in_url(schemas.NewEncoderInUrl)},
)
def create_encoder(body: BodyDep, request: Request, service: ServiceDep) -> Response:
    """Create an encoder.

    With a data-free method and a dimension or descriptors, the answer is 201 and the encoder is
    ready. Otherwise the answer is 202, and a job trains the encoder.
    """
    new: schemas.NewEncoder | schemas.NewEncoderInUrl
    source: dict[str, Any]
    if body.is_npy:
        new = parse_url(schemas.NewEncoderInUrl, dict(request.query_params))
        matrix, *labels = npy.read_arrays(body.data, npy.OF_TRAINING)
        source = {"descriptors": npy.not_empty(matrix), "labels": labels[0] if labels else None}
    elif request.query_params:
        raise InvalidInput("give the fields of an encoder in the JSON body, not in the URL")
    else:
        new = body.parse(schemas.NewEncoder)
        source = _source(new)
    settings = (new.name, new.method, new.n_bits, new.params)
    has_descriptors = source.get("descriptors") is not None
    if "dimension" in source or (has_descriptors and new.method in _DATA_FREE):
        encoder = service.encoders.create(*settings, **source)
        return JSONResponse(_out(encoder).model_dump(), 201)
    job = service.encoders.train(*settings, **source)
    url = request.url_for("show_job", job=job).path
    return JSONResponse({"id": job, "url": url}, 202, {"Location": url})


@router.get("")
def list_encoders(service: ServiceDep) -> list[schemas.EncoderOut]:
    """List all encoders, sorted by name."""
    return [_out(encoder) for encoder in service.encoders.list()]


@methods.get("")
def list_methods() -> list[schemas.MethodOut]:
    """List the methods, and what each needs for training."""
    return [
        schemas.MethodOut(
            method=method,
            data_free=cls.data_free,
            needs_labels=cls.needs_labels,
            needs_torch=cls.needs_torch,
        )
        for method, cls in HASHERS.items()
    ]


@router.get("/{name}")
def show_encoder(name: str, service: ServiceDep) -> schemas.EncoderOut:
    """Show one encoder."""
    return _out(service.encoders.get(name))


@router.get(
    "/{name}/file",
    response_class=Response,
    responses={200: {"content": {FILE: {"schema": {"type": "string", "format": "binary"}}}}},
)
def download_encoder(name: str, service: ServiceDep) -> Response:
    """Return an encoder as a file, which `upload_encoder` and the library read."""
    with service.answers.counted("raise that limit") as size:
        file = service.encoders.file(name, size)
        return Response(file, media_type=FILE, headers=attachment(f"{name}.safetensors"))


@router.put("/{name}", status_code=201, openapi_extra=FILE_BODY)
def upload_encoder(name: str, body: BodyDep, service: ServiceDep) -> schemas.EncoderOut:
    """Upload an encoder file that `bitcell train` or `Hasher.save` wrote."""
    return _out(service.encoders.upload(name, body.data))


@router.delete("/{name}", status_code=204, response_class=Response)
def drop_encoder(name: str, service: ServiceDep) -> None:
    """Delete an encoder that no collection uses."""
    service.encoders.drop(name)


@router.post(
    "/{name}/encode",
    response_model=schemas.CodesOut,
    openapi_extra=takes(schemas.ToEncode, "(n, d) numbers; the answer is npy too."),
)
def encode(name: str, body: BodyDep, service: ServiceDep) -> Response:
    """Encode descriptors: the codes are hex strings in JSON, or packed uint8 in npy."""
    if body.is_npy:
        (matrix,) = npy.read_arrays(body.data, npy.DESCRIPTORS)
        descriptors: ArrayLike = npy.not_empty(matrix)
    else:
        descriptors = body.parse(schemas.ToEncode).descriptors
    as_text = not body.wants_npy
    advice = "encode fewer descriptors in one request" + (", or ask for npy" if as_text else "")
    with service.answers.counted(advice) as size:
        hasher, codes = service.encoders.encode(name, descriptors, size, as_text=as_text)
        if not as_text:
            return npy_response(np.ascontiguousarray(codes))
        answer = {"codes": [code.tobytes().hex() for code in codes], "n_bits": hasher.n_bits}
        return Response(to_json(answer), media_type=JSON)


def _source(new: schemas.NewEncoder) -> dict[str, Any]:
    """Return what a JSON body gives to fit on: a training, without empty fields, or a dimension."""
    if new.training is None:
        return {"dimension": new.dimension}
    if new.dimension is not None:
        raise InvalidInput("expected either training or dimension, got both")
    return new.training.model_dump(exclude_none=True)


def _out(encoder: Encoder) -> schemas.EncoderOut:
    params = encoder.hasher.get_params()
    return schemas.EncoderOut(
        name=encoder.name,
        method=encoder.hasher.method,
        n_bits=params.pop("n_bits"),
        dimension=encoder.hasher.n_features_in_,
        params=params,
        fingerprint=encoder.fingerprint,
    )
