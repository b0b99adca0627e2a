"""The same calls on the embedded index and on one in Milvus, whose answers are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from index import (
    Filter,
    IndexProblem,
    InvalidItems,
    ItemBatch,
    SearchOptions,
    Unavailable,
    backend,
    snapshot,
)
from index.filters.milvus import to_milvus
from tests.index.filter_oracle import conditions

IDS = [
    *"abcdefghijklmnopqrst",
    "x'] or id in ['a",
    'x"] or id in ["a',
    "\\",
    '\\"',
    "'",
    '"',
    "%_*?",
    "日本",
    "ﬀ",
    "😀" * 256,
    "é" * 256,
    "0" * 256,
    "007",
    "id",
    "null",
    "A",
    "a b",
    "Å",
    "~",
    " ",
]
BAD_IDS = ["", "a/../b", "line\n", "e" * 257, "\ud800"]
LENGTHS = [1, 7, 8, 9, 24, 64, 65, 128, 200, 512]
D = 3

ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=12, unique=True)
any_ids = st.lists(st.sampled_from([*IDS, *BAD_IDS, "nobody"]), max_size=6)
numbers = st.integers(0, 2**32 - 1)
scalars = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, -3, "", "1", "é", "x'] or id in ['a"])
payloads: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "a": scalars,
            "i": st.integers(-5, 5),
            "tags": st.lists(scalars, max_size=3),
            "n": st.fixed_dictionaries({}, optional={"a b": scalars, "tags": st.lists(scalars)}),
            "label": st.integers(0, 3),
            "x.y": scalars,
        },
    ),
)
labels = st.one_of(st.none(), st.integers(0, 3), st.just(2**63 - 1))
filters = st.one_of(st.none(), conditions, st.sampled_from([{"id": each} for each in IDS]))


class Pair(RuleBasedStateMachine):
    """Two stores with a collection each that hold the same.

    A subclass says which stores. The collections of each code length are used again by the next
    example, because Milvus takes seconds to make one.
    """

    embedded: backend.Store
    milvus: backend.Store
    folder: Path
    # Whether collections are made again, by re-encoding and from snapshots.
    remakes = True
    lengths: Sequence[int] = LENGTHS

    def __init__(self) -> None:
        super().__init__()
        self.name = ""
        self.items: set[str] = set()

    @property
    def both(self) -> tuple[backend.Collection, backend.Collection]:
        return self.embedded.get(self.name), self.milvus.get(self.name)

    def same(self, call: Callable[[backend.Collection], Any]) -> Any:
        """Return what a call gives on the embedded index, after it gave the same in Milvus."""
        expected, found = (outcome(call, each) for each in self.both)
        assert found == expected
        return expected

    @initialize(place=st.integers(0, 9), keep=st.booleans())
    def start(self, place: int, keep: bool) -> None:
        n_bits = self.lengths[place % len(self.lengths)]
        keep = keep or not self.remakes
        self.name = f"c{n_bits}{'-kept' if keep else ''}"
        for store in (self.embedded, self.milvus):
            if self.name not in [each.name for each in store.list()]:
                store.create(self.name, n_bits, keep_descriptors="float16" if keep else False)
            else:
                store.get(self.name).delete(IDS)
        assert [len(each) for each in self.both] == [0, 0]

    @property
    def n_bits(self) -> int:
        return self.both[0].n_bits

    @property
    def keeps(self) -> bool:
        return self.both[0].keep_descriptors

    def codes(self, n: int, seed: int) -> NDArray[np.uint8]:
        """Return few distinct codes, so that many tie."""
        rng = np.random.default_rng(seed % 100)
        bits = rng.integers(0, 2, (4, self.n_bits))
        bits[1:3] = bits[0]
        bits[1, 0] ^= 1
        bits[2, -1] ^= 1
        packed = np.packbits(bits, axis=1)
        return packed[np.random.default_rng(seed).integers(0, 4, n)]

    @rule(names=ids, seed=numbers, data=st.data())
    def upsert(self, names: list[str], seed: int, data: st.DataObject) -> None:
        n = len(names)
        codes = self.codes(n, seed)
        given_labels = data.draw(st.one_of(st.none(), st.lists(labels, min_size=n, max_size=n)))
        given = data.draw(st.one_of(st.none(), st.lists(payloads, min_size=n, max_size=n)))
        X = np.random.default_rng(seed).integers(-3, 4, (n, D)) if self.keeps else None
        self.same(lambda each: each.upsert(names, codes, given_labels, given, X))
        self.items |= set(names)

    @rule(names=any_ids, seed=numbers, d=st.integers(1, 4), wide=st.booleans())
    def upsert_anything(self, names: list[str], seed: int, d: int, wide: bool) -> None:
        """Most of these are refused, with the same messages."""
        codes = self.codes(len(names), seed)
        if wide:
            codes = np.concatenate([codes, codes], axis=1)
        X = np.ones((len(names), d)) if seed % 3 else None
        if self.same(lambda each: each.upsert(names, codes, None, None, X))[0] == "returned":
            self.items |= set(names)

    @rule(names=any_ids, data=st.data())
    def patch(self, names: list[str], data: st.DataObject) -> None:
        change = st.fixed_dictionaries({}, optional={"label": labels, "payload": payloads})
        n = len(names)
        changes = data.draw(st.lists(change, min_size=n, max_size=n))
        self.same(lambda each: each.patch(names, changes))
        if n:
            self.same(lambda each: each.patch_one(names[0], changes[0]))

    @rule(names=any_ids)
    def delete(self, names: list[str]) -> None:
        self.same(lambda each: each.delete(names))

    @rule(condition=filters)
    def delete_matching(self, condition: Any) -> None:
        if condition is not None and has_expression(condition):
            self.same(lambda each: each.delete_matching(Filter(condition)))

    @rule(names=any_ids)
    def read(self, names: list[str]) -> None:
        self.same(lambda each: each.codes(names).tolist())
        self.same(lambda each: each.descriptors(names).astype(float).tolist() if names else None)
        for name in names[:2]:
            self.same(partial(_get, name))
        self.same(lambda each: each.has_labels())

    @rule(offset=st.integers(0, 5), limit=st.integers(0, 20), condition=filters)
    def page(self, offset: int, limit: int, condition: Any) -> None:
        if has_expression(condition):
            where = None if condition is None else Filter(condition)
            self.same(lambda each: each.items(offset, limit, where=where))
            if where is not None:
                self.same(lambda each: each.count(where))

    @rule(
        seed=numbers,
        n=st.integers(1, 3),
        k=st.integers(1, 12),
        offset=st.sampled_from([0, 0, 1, 5, 30]),
        radius=st.sampled_from([None, None, 0, 1, 2, 600]),
        condition=filters,
        rerank=st.sampled_from([None, None, "descriptors", "cosine", "bits"]),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    )
    def search(
        self,
        seed: int,
        n: int,
        k: int,
        offset: int,
        radius: int | None,
        condition: Any,
        rerank: Any,
        flags: tuple[bool, bool, bool],
    ) -> None:
        if not has_expression(condition):
            return
        options = SearchOptions(
            k,
            radius,
            offset,
            None if condition is None else Filter(condition),
            None if rerank is None else offset + k + 3,
            rerank,
            flags[0],
            flags[1],
            flags[2],
        )
        codes = self.codes(n, seed)
        rng = np.random.default_rng(seed)
        X, Z = rng.integers(-3, 4, (n, D)), rng.normal(size=(n, self.n_bits))
        self.same(
            lambda each: seen(each.search(codes, options, descriptors=X, projections=Z), each)
        )

    @rule()
    def export(self) -> None:
        def of(collection: backend.Collection) -> Any:
            return sorted(
                (name, code.tolist(), label, payload)
                for batch in collection.item_batches(5)
                for name, code, label, payload in zip(
                    batch.ids, batch.codes, batch.labels.tolist(), batch.payloads, strict=True
                )
            )

        self.same(of)
        self.same(lambda each: sorted(name for part in each.code_batches() for name in part.ids))

    @rule()
    def moment(self) -> None:
        def of(collection: backend.Collection) -> Any:
            moment = collection.moment()
            places = np.arange(len(moment))[::-1]
            X = moment.descriptors(places).astype(float).tolist() if self.keeps else None
            return moment.labels.tolist(), moment.words(places).tolist(), X

        self.same(of)
        self.same(lambda each: len(each.sample_codes(5).codes))

    @precondition(lambda self: self.remakes and self.keeps)
    @rule(seed=numbers)
    def reencode(self, seed: int) -> None:
        A = np.random.default_rng(seed).normal(size=(D, self.n_bits))

        def encode(X: NDArray[Any]) -> NDArray[np.uint8]:
            return np.packbits(X.astype(float) @ A > 0, axis=1)

        for store in (self.embedded, self.milvus):
            old = store.get(self.name)
            new = store.reencode(self.name, encode, self.n_bits, encoder="new", fingerprint="f")
            assert new.key != old.key
            assert new.encoder == "new"
            assert outcome(partial(_get, "a"), old)[0] == "Replaced"
        self.align()

    @precondition(lambda self: self.remakes)
    @rule(crossed=st.booleans())
    def restore(self, crossed: bool) -> None:
        """Restore each from a snapshot of its own, or of the other one."""
        stores = [self.embedded, self.milvus]
        paths = [self.folder / "embedded.snapshot", self.folder / "milvus.snapshot"]
        for store, path in zip(stores, paths, strict=True):
            with path.open("wb") as file:
                snapshot.write(store.get(self.name), file)
        for store, path in zip(stores, paths[::-1] if crossed else paths, strict=True):
            old = store.get(self.name)
            store.drop(self.name)
            assert outcome(partial(_get, "a"), old)[0] == "NotFound"
            snapshot.read(store, path, self.name)
        self.align()

    def align(self) -> None:
        """Write all items again, which may have come into another order."""
        for collection in self.both:
            batches = list(collection.item_batches(1000))
            for batch in batches:
                order = sorted(range(len(batch.ids)), key=batch.ids.__getitem__)
                X = batch.descriptors
                collection.put(
                    ItemBatch(
                        [batch.ids[place] for place in order],
                        batch.codes[order],
                        batch.labels[order],
                        [batch.payloads[place] for place in order],
                        None if X is None else X[order],
                        None,
                    )
                )

    @invariant()
    def as_many(self) -> None:
        if self.name:
            self.same(len)


def _get(name: str, collection: backend.Collection) -> Any:
    return collection.get(name)


def has_expression(condition: Any) -> bool:
    """Return whether Milvus has a filter; the other ones are refused by a sentence."""
    if condition is None:
        return True
    where = Filter(condition)
    try:
        to_milvus(where)
    except InvalidItems:
        return False
    return True


def outcome(call: Callable[[Any], Any], collection: Any) -> tuple[str, Any]:
    """Return what a call returns, or what it raises."""
    try:
        return "returned", call(collection)
    except Unavailable:
        raise
    except IndexProblem as error:
        return type(error).__name__, str(error)


def seen(found: Any, collection: backend.Collection) -> Any:
    """Return of answers what both have to agree on."""
    answers = []
    for each in found:
        of = each.certificate
        assert of.exact
        neighbours = [
            (
                n.id,
                n.distance,
                n.label,
                n.payload_json,
                n.code,
                None if n.score is None else round_(n.score),
            )
            for n in each.neighbours
        ]
        answers.append((neighbours, each.code, of.tie, of.within, of.truncated))
    return answers


def round_(score: float) -> float:
    """Return a score up to the order in which it was added up."""
    return float(f"{score:.9e}") if math.isfinite(score) else score
