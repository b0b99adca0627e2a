"""Encoders and methods, and GIST descriptors of images."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import httpx2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcell_client.arguments import (
    as_bytes,
    as_integer,
    as_labels,
    as_list,
    as_matrix,
    as_object,
    as_shaped,
    as_text,
)
from bitcell_client.batches import BATCH, split
from bitcell_client.call import (
    NPY,
    Request,
    answer_as,
    as_npy,
    call,
    matrix_as,
    read_bytes,
    read_nothing,
    without_none,
)
from bitcell_client.decode import from_json
from bitcell_client.json_body import as_json
from bitcell_client.results import Accepted, Encoder, Method


class EncoderCalls:
    """Calls about encoders."""

    @call("GET", "/v1/encoders")
    def encoders(self) -> Request[list[Encoder]]:
        """Return all encoders, by name."""
        return Request(answer_as(list[Encoder]))

    @call("GET", "/v1/encoders/{name}")
    def encoder(self, name: str) -> Request[Encoder]:
        """Return one encoder."""
        return Request(answer_as(Encoder), {"name": name})

    @call("POST", "/v1/encoders")
    def create_encoder(
        self,
        name: str,
        method: str,
        n_bits: int,
        params: Mapping[str, Any] | None = None,
        *,
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        dataset: str | None = None,
        collection: str | None = None,
        dimension: int | None = None,
    ) -> Request[Encoder | Accepted]:
        """Create an encoder.

        It learns from exactly one of: `descriptors` (n, d) with optional `labels` (n,), -1 for
        none; a `dataset` of the service; a `collection` that keeps its descriptors. For a
        data-free method a `dimension` is enough.

        Returns
        -------
        Encoder or Accepted
            The encoder, if the method is data-free and gets a dimension or descriptors; else the
            job that trains it. `wait` takes both.
        """
        X = None if descriptors is None else as_matrix(descriptors)
        y = None if labels is None else as_labels(labels)
        new = {
            "name": as_text("name", name),
            "method": as_text("method", method),
            "n_bits": as_integer("n_bits", n_bits),
        }
        parameters = as_object("params", params) or {}
        training = without_none({"dataset": dataset, "collection": collection})
        if X is not None and not training and dimension is None:
            # As npy: JSON would have five times the size.
            arrays = [X] if y is None else [X, y]
            return Request(
                _read_encoder_or_job,
                query=new | {"params": as_json(parameters).decode()},
                content=as_npy(*arrays),
                headers={"Content-Type": NPY},
            )
        training |= {} if X is None else {"descriptors": X.tolist()}
        training |= {} if y is None else {"labels": y.tolist()}
        body = {
            **new,
            "params": parameters,
            "dimension": as_integer("dimension", dimension),
            "training": training or None,
        }
        return Request(_read_encoder_or_job, json=without_none(body))

    @call("PUT", "/v1/encoders/{name}")
    def upload_encoder(self, name: str, file: bytes) -> Request[Encoder]:
        """Store an encoder made elsewhere: the bytes of the file that `Hasher.save` wrote."""
        headers = {"Content-Type": "application/octet-stream"}
        return Request(
            answer_as(Encoder), {"name": name}, content=as_bytes("file", file), headers=headers
        )

    @call("GET", "/v1/encoders/{name}/file")
    def encoder_file(self, name: str) -> Request[bytes]:
        """Return the file of an encoder, for `upload_encoder` or the library's `load_hasher`."""
        return Request(read_bytes, {"name": name})

    @call("DELETE", "/v1/encoders/{name}")
    def drop_encoder(self, name: str) -> Request[None]:
        """Delete an encoder that no collection uses."""
        return Request(read_nothing, {"name": name})

    @call("POST", "/v1/encoders/{name}/encode", safe=True)
    def encode(
        self, name: str, descriptors: ArrayLike, *, batch: int = BATCH
    ) -> Request[NDArray[np.uint8]]:
        """Return packed codes, uint8 (n, ceil(n_bits / 8)), of any number of descriptors (n, d).

        At most `batch` descriptors are sent in one request.
        """

        def request(X: NDArray[Any]) -> Request[NDArray[np.uint8]]:
            content, headers = as_npy(as_matrix(X)), {"Content-Type": NPY}
            return Request(matrix_as(np.uint8), {"name": name}, content=content, headers=headers)

        most = as_integer("batch", batch)
        return split(as_shaped(descriptors), request, np.concatenate, most=most)

    @call("GET", "/v1/methods")
    def methods(self) -> Request[list[Method]]:
        """Return the methods, and what each needs for training."""
        return Request(answer_as(list[Method]))

    @call("POST", "/v1/gist", safe=True)
    def gist(self, images: Iterable[bytes]) -> Request[NDArray[np.float32]]:
        """Return GIST descriptors, float32 (n, 384), of image files given as bytes."""
        files = [
            base64.b64encode(as_bytes(f"images[{i}]", image)).decode()
            for i, image in enumerate(as_list("images", images))
        ]
        return Request(matrix_as(np.float32), json={"images": files}, headers={"Accept": NPY})


def _read_encoder_or_job(response: httpx2.Response) -> Encoder | Accepted:
    if response.status_code == 202:
        return from_json(Accepted, response.content)
    return from_json(Encoder, response.content)
