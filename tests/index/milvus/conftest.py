"""Stores on a real Milvus server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from index import backend
from tests.milvus_server import Server, using


@contextmanager
def store_of(milvus_folder: Path, folder: Path, **more: object) -> Iterator[backend.Store]:
    """Open a store for the tests of a module."""
    from sqlalchemy import create_engine

    from index.milvus.store import MilvusStore
    from index.milvus.tables import metadata

    engine = create_engine(f"sqlite:///{folder / 'milvus.db'}", connect_args={"timeout": 30})
    metadata.create_all(engine)
    with using(milvus_folder, alone=False) as server:
        store = MilvusStore(server.url, engine, timeout=60.0, **more)  # type: ignore[arg-type]
        try:
            yield store
        finally:
            store.close()
            engine.dispose()


Opening = Callable[..., backend.Store]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opening]:
    """Open a store on a server, with its own database by default."""
    from sqlalchemy import create_engine

    from index.milvus.store import MilvusStore
    from index.milvus.tables import metadata

    with ExitStack() as closing:

        def open_store(server: Server, path: Path | None = None, **more: object) -> backend.Store:
            engine = create_engine(
                f"sqlite:///{path or tmp_path / 'milvus.db'}", connect_args={"timeout": 30}
            )
            closing.callback(engine.dispose)
            metadata.create_all(engine)
            store = MilvusStore(server.url, engine, **more)  # type: ignore[arg-type]
            closing.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def milvus_store(milvus: Server, opened: Opening) -> Iterator[backend.Store]:
    """A store whose collections are deleted at the end."""
    store = opened(milvus, timeout=60.0)
    yield store
    for collection in store.list():
        store.drop(collection.name)
    store.settle()


@pytest.fixture(scope="module")
def module_store(
    milvus_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[backend.Store]:
    """A store of a module, with a collection `c` of 8 bits: to make one takes Milvus seconds."""
    with store_of(milvus_folder, tmp_path_factory.mktemp("store"), consistency="session") as store:
        store.create("c", 8)
        yield store
        store.drop("c")
        store.settle()


@pytest.fixture
def collection(module_store: backend.Store) -> backend.Collection:
    """The collection of the module, empty."""
    collection = module_store.get("c")
    collection.delete([name for batch in collection.code_batches() for name in batch.ids])
    return collection
