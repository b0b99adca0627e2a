"""A vector store of LangChain that keeps its documents in a collection of Bitcell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from bitcell_client import Client, QueryResult


class BitcellStore(VectorStore):
    """Texts and their metadata are payloads; a filter is one of Bitcell, on the metadata."""

    def __init__(self, client: Client, collection: str, embedding: Embeddings) -> None:
        self.client, self.collection, self.embedding = client, collection, embedding

    @property
    def embeddings(self) -> Embeddings:
        """The model that embeds texts."""
        return self.embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **_: Any,
    ) -> list[str]:
        """Embed texts and store them; return their ids."""
        texts = list(texts)
        ids = ids or [uuid4().hex for _ in texts]
        payloads = [
            {"text": text, "metadata": metadata}
            for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True)
        ]
        X = self.embedding.embed_documents(texts)
        self.client.load(self.collection, ids, X, payloads=payloads)
        return ids

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Delete documents; return whether any was there."""
        if ids is None:
            raise ValueError("expected the ids of the documents to delete, got None")
        return self.client.delete_items(self.collection, ids).deleted > 0

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002
        **_: Any,
    ) -> list[tuple[Document, float]]:
        """Return documents with one minus the cosine of their embeddings and that of the query."""
        where = filter and {f"metadata.{name}": value for name, value in filter.items()}
        found: QueryResult = self.client.query(
            self.collection,
            [self.embedding.embed_query(query)],
            k=k,
            filter=where,
            rerank=max(100, 10 * k),
            rerank_by="cosine",
        )
        return [
            (
                Document(near.payload["text"], metadata=near.payload["metadata"], id=near.id),
                near.score,
            )
            for near in found.results[0]
        ]

    def similarity_search(self, query: str, k: int = 4, **more: Any) -> list[Document]:
        """Return the documents whose texts are nearest to that of the query."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **more)]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        client: Client,
        collection: str,
        **more: Any,
    ) -> BitcellStore:
        """Return a store with these texts."""
        store = cls(client, collection, embedding)
        store.add_texts(texts, metadatas, **more)
        return store
