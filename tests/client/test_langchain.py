"""The vector store of examples/, with stand-ins for the classes of LangChain that it uses."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest

from app.main import create_app
from bitcell_client import Client
from tests.app.asgi_client import TestClient
from tests.app.conftest import settings_in

EXAMPLE = Path(__file__).parents[2] / "examples" / "langchain_store.py"
TEXTS = [f"text {i}" for i in range(30)]


class Words:
    """Stands for a model: an embedding of 16 numbers that depends on the text alone."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        found: list[float] = np.random.default_rng(list(text.encode())).normal(size=16).tolist()
        return found


@pytest.fixture
def store_type(monkeypatch: pytest.MonkeyPatch) -> Any:
    def document(page_content: str, *, metadata: dict[str, Any], id: str) -> Any:  # noqa: A002
        return SimpleNamespace(page_content=page_content, metadata=metadata, id=id)

    names = {"documents": "Document", "embeddings": "Embeddings", "vectorstores": "VectorStore"}
    monkeypatch.setitem(sys.modules, "langchain_core", ModuleType("langchain_core"))
    for module, name in names.items():
        made = ModuleType(f"langchain_core.{module}")
        setattr(made, name, document if name == "Document" else type(name, (), {}))
        monkeypatch.setitem(sys.modules, made.__name__, made)
    return runpy.run_path(str(EXAMPLE))["BitcellStore"]


@pytest.fixture
def bitcell(tmp_path: Path) -> Iterator[Client]:
    with TestClient(create_app(settings_in(tmp_path))) as service:

        def answer(request: httpx2.Request) -> httpx2.Response:
            path = request.url.raw_path.decode()
            headers = {k: v for k, v in request.headers.items() if k != "host"}
            got = service.request(request.method, path, content=request.read(), headers=headers)
            kind = {"Content-Type": got.headers.get("content-type", "")}
            return httpx2.Response(got.status_code, content=got.content, headers=kind)

        with Client("http://localhost", transport=httpx2.MockTransport(answer)) as client:
            client.create_encoder("e", "lsh", 64, dimension=16)
            client.create_collection("texts", "e", keep_descriptors=True)
            yield client


def test_the_vector_store_finds_what_it_was_given(store_type: Any, bitcell: Client) -> None:
    metadatas = [{"page": i % 3} for i in range(len(TEXTS))]
    store = store_type.from_texts(TEXTS, Words(), metadatas, client=bitcell, collection="texts")
    X = np.array(Words().embed_documents(TEXTS))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = 1 - unit @ unit[7]
    found = store.similarity_search_with_score("text 7", k=5)
    expected = np.argsort(cosines)[:5]
    assert [document.page_content for document, _ in found] == [TEXTS[i] for i in expected]
    np.testing.assert_allclose([score for _, score in found], cosines[expected], atol=1e-5)
    filtered = store.similarity_search("text 7", k=30, filter={"page": 2})
    assert {document.page_content for document in filtered} == set(TEXTS[2::3])
    assert all(document.metadata == {"page": 2} for document in filtered)
    ids = store.add_texts(["another"], ids=["x"])
    assert ids == ["x"]
    assert store.similarity_search("another", k=1)[0].id == "x"
    assert store.delete(["x"])
    assert not store.delete(["x"])
    assert store.embeddings is store.embedding
