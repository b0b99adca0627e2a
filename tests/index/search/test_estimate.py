"""Ranking by estimated distances, compared with a brute-force estimate over the live items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitcodes import unpack
from hashing.methods.rabitq import RaBitQ
from hashing.parts.estimate import epsilon_for, estimates
from index import (
    BadSnapshot,
    Collection,
    Database,
    Filter,
    Found,
    InvalidItems,
    Metric,
    SearchOptions,
    Store,
    snapshot,
)
from index.memory.view import View
from index.search import estimate

D = 24
METRICS: list[Metric] = ["euclidean", "cosine", "dot"]
RNG = np.random.default_rng(0)
X = RNG.normal(1, 1, (900, D)).astype(np.float32)
QUERIES = RNG.normal(1, 1, (7, D)).astype(np.float32)
HASHERS = {
    (metric, n_bits): RaBitQ(n_bits, normalize=metric == "cosine", random_state=n_bits).fit(X)
    for metric in METRICS
    for n_bits in (20, 64)
}

Live = dict[str, tuple[NDArray[np.float32], int]]


class Model:
    """A collection, and its items as a dictionary: descriptor and label by id."""

    def __init__(self, collection: Collection, hasher: RaBitQ) -> None:
        self.collection, self.hasher, self.live = collection, hasher, Live()

    def upsert(self, ids: list[str], rows: NDArray[np.float32], label: int = 0) -> None:
        metric = self.collection.metric or "euclidean"
        self.collection.upsert(
            ids,
            self.hasher.encode(rows),
            [label] * len(ids),
            descriptors=rows if self.collection.keep_descriptors else None,
            factors=self.hasher.factors(rows, metric),
        )
        self.live |= {item_id: (row, label) for item_id, row in zip(ids, rows, strict=True)}

    def delete(self, ids: list[str]) -> None:
        self.collection.delete(ids)
        for item_id in ids:
            self.live.pop(item_id, None)

    def search(self, options: SearchOptions, queries: NDArray[Any] = QUERIES) -> list[Found]:
        return self.collection.search(
            self.hasher.encode(queries),
            options,
            descriptors=queries,
            terms=self.hasher.query_terms(queries, self.collection.metric or "euclidean"),
        )

    def scores(self, found: Found) -> list[float]:
        return [near.score for near in found.neighbours if near.score is not None]

    def check(self, matches: Callable[[int], bool] = lambda label: True, **options: Any) -> None:
        """Compare an answer with the brute-force one in float64, item by item."""
        allowed = {i: row for i, (row, label) in self.live.items() if matches(label)}
        ids, metric = sorted(allowed), self.collection.metric or "euclidean"
        answers = self.search(SearchOptions(12, **options))
        assert len(answers) == len(QUERIES)
        if not ids:
            assert not any(answer.neighbours for answer in answers)
            return
        rows = np.array([allowed[i] for i in ids])
        terms = self.hasher.query_terms(QUERIES, metric)
        signs = 2.0 * unpack(self.hasher.encode(rows), self.hasher.n_bits) - 1
        scale, offset, error = self.hasher.factors(rows, metric).T.astype(np.float64)
        for query, answer in enumerate(answers):
            inner = signs @ terms.vectors[query].astype(np.float64)
            expected = terms.constants[query] - (scale * inner + offset)
            size = np.abs(expected).max() + terms.lengths[query] ** 2
            scores = np.array([near.score for near in answer.neighbours])
            places = [ids.index(near.id) for near in answer.neighbours]
            assert len(set(places)) == len(places) == min(12, len(ids))
            found = expected[places]
            if metric == "euclidean":
                scores = scores * np.abs(scores)
            np.testing.assert_allclose(scores, found, atol=1e-6 * size)
            np.testing.assert_allclose(scores, np.sort(expected)[: len(scores)], atol=1e-6 * size)
            codes = self.hasher.encode(rows[places]) ^ self.hasher.encode(
                QUERIES[query : query + 1]
            )
            hamming = np.bitwise_count(codes).sum(axis=1)
            assert [near.distance for near in answer.neighbours] == hamming.tolist()
            about = answer.certificate
            assert (about.ranking, about.exact, about.looked) == ("estimate", True, len(ids))
            bounds = 1.9 * terms.lengths[query] * error[places]
            if metric == "euclidean":
                roots = np.sign(found) * np.sqrt(np.abs(found))
                low = roots - np.sqrt(np.maximum(found - bounds, 0))
                bounds = np.maximum(low, np.sqrt(np.maximum(found + bounds, 0)) - roots)
            assert about.error_bound == pytest.approx(bounds.max(), rel=1e-3)


@pytest.fixture(params=[(metric, n_bits) for metric in METRICS for n_bits in (20, 64)])
def model(store: Store, request: pytest.FixtureRequest) -> Model:
    metric, n_bits = request.param
    return Model(
        store.create("c", n_bits, metric=metric, keep_descriptors=True), HASHERS[request.param]
    )


def test_answers_are_those_of_brute_force_whatever_is_written(model: Model, store: Store) -> None:
    model.check()
    ids = [f"i{i:03}" for i in RNG.permutation(900)]
    model.upsert(ids[:500], X[:500])
    model.check()
    model.delete(ids[:100])
    model.upsert(ids[90:200], -X[90:200], label=1)
    model.check()
    store.settle()
    # A segment and a tail, rows that are dead in both.
    state = model.collection._state
    state.rows.build_segment(state.database.exclusive())
    model.check()
    model.upsert(ids[150:400], X[150:400] + 1, label=2)
    model.delete([*ids[300:350], *ids[400:420]])
    model.collection.patch(ids[360:370], [{"label": 3}] * 10)
    for item_id in ids[360:370]:
        model.live[item_id] = (model.live[item_id][0], 3)
    model.check()
    for labels in ({0, 3}, {2}, {7}):
        model.check(labels.__contains__, where=Filter({"label": {"in": sorted(labels)}}))
    state.rows.build_segment(state.database.exclusive())
    model.check()
    model.check({1}.__contains__, where=Filter({"label": 1}))


def test_answers_are_the_same_after_a_restart(tmp_path: Path) -> None:
    answers = []
    for start in range(2):
        database = Database(tmp_path / "bitcell.db")
        store = Store(database)
        hasher = HASHERS["euclidean", 20]
        if not start:
            store.create("c", 20, metric="euclidean")
        model = Model(store.get("c"), hasher)
        if not start:
            model.upsert([f"i{i}" for i in range(300)], X[:300])
            model.delete(["i7"])
        answers.append(model.search(SearchOptions(300)))
        store.close()
        database.close()
    assert answers[0] == answers[1]
    assert len(answers[0][0].neighbours) == 299


def test_a_snapshot_gives_the_same_answers(model: Model, store: Store, tmp_path: Path) -> None:
    model.upsert([f"i{i:03}" for i in range(300)], X[:300])
    model.delete(["i007"])
    with (tmp_path / "s").open("wb") as file:
        snapshot.write(model.collection, file)
    snapshot.read(store, tmp_path / "s", "back")
    back = Model(store.get("back"), model.hasher)
    assert back.collection.metric == model.collection.metric
    assert back.search(SearchOptions(300)) == model.search(SearchOptions(300))
    back.live = model.live
    back.check()


def test_a_snapshot_with_factors_that_are_not_finite_is_refused(
    store: Store, tmp_path: Path
) -> None:
    model = Model(store.create("c", 20, metric="dot"), HASHERS["dot", 20])
    model.upsert(["a"], X[:1])
    tail = model.collection._state.rows.view().tail
    tail.view(np.uint8)[:, 3:15] = np.full(3, np.nan, "<f4").view(np.uint8)
    with (tmp_path / "s").open("wb") as file:
        snapshot.write(model.collection, file)
    with pytest.raises(InvalidItems, match="finite factors"):
        snapshot.read(store, tmp_path / "s", "back")
    data = (tmp_path / "s").read_bytes()
    (tmp_path / "t").write_bytes(data.replace(b"snapshot 3", b"snapshot 2", 1))
    with pytest.raises(BadSnapshot, match="metric is 'dot' in a file of version 2"):
        snapshot.read(store, tmp_path / "t", "back")


def test_reencoding_replaces_codes_and_factors(model: Model, store: Store) -> None:
    model.upsert([f"i{i:03}" for i in range(300)], X[:300])
    metric = model.collection.metric or "euclidean"
    hasher = RaBitQ(40, normalize=metric == "cosine", random_state=5).fit(X)
    late: list[int] = []

    def encode(rows: Any) -> Any:
        if not late:  # While it runs, an item is deleted and one is written.
            late.append(1)
            model.delete(["i005"])
            model.upsert(["i006", "new"], X[500:502])
        return hasher.encode(rows)

    new = store.reencode(
        "c", encode, 40, metric=metric, factors=lambda rows: hasher.factors(rows, metric)
    )
    assert (new.metric, new.n_bits) == (metric, 40)
    again = Model(new, hasher)
    again.live = model.live
    again.check()


def test_a_reencoding_without_factors_changes_nothing(store: Store) -> None:
    collection = store.create("c", 20, metric="dot", keep_descriptors=True)
    model = Model(collection, HASHERS["dot", 20])
    model.upsert(["a", "b"], X[:2])
    with pytest.raises(InvalidItems, match="'dot' need the factors"):
        store.reencode("c", HASHERS["dot", 20].encode, 20, metric="dot")
    model.check()


def test_equal_items_come_in_the_order_of_their_ids(store: Store) -> None:
    model = Model(store.create("c", 64, metric="euclidean"), HASHERS["euclidean", 64])
    ids = [f"i{i:03}" for i in RNG.permutation(200)]
    model.upsert(ids[:150], np.repeat(X[:1], 150, axis=0))
    state = model.collection._state
    state.rows.build_segment(state.database.exclusive())
    model.upsert(ids[150:], np.repeat(X[:1], 50, axis=0))
    for k in (5, 199):
        for found in model.search(SearchOptions(k)):
            assert [near.id for near in found.neighbours] == sorted(ids)[:k]
            assert found.certificate.tie == 200
    pages = [model.search(SearchOptions(50, offset=n))[0].neighbours for n in (0, 50, 100, 150)]
    assert [near.id for page in pages for near in page] == sorted(ids)


@pytest.mark.parametrize("metric", ["euclidean", None])
def test_few_ids_are_read_to_order_many_equal_items(
    store: Store, monkeypatch: pytest.MonkeyPatch, metric: Metric | None
) -> None:
    hasher = HASHERS["euclidean", 64]
    collection = store.create("c", 64, metric=metric)

    def upsert(ids: list[str]) -> None:
        rows = np.repeat(X[:1], len(ids), axis=0)
        factors = hasher.factors(rows) if metric else None
        collection.upsert(ids, hasher.encode(rows), factors=factors)

    upsert([f"i{i:04}" for i in range(5000)])
    state = collection._state
    # The thread in the background builds segments too, and two at a time are one too many.
    store.settle()
    state.rows.build_segment(state.database.exclusive())
    upsert([f"i0002-{i}" for i in range(100)])
    read = []
    names = View.names

    def counted(view: View, rows: NDArray[np.int64]) -> list[str]:
        read.append(len(rows))
        return names(view, rows)

    monkeypatch.setattr(View, "names", counted)
    (found,) = collection.search(
        hasher.encode(X[:1]), SearchOptions(5), terms=hasher.query_terms(X[:1]) if metric else None
    )
    expected = ["i0000", "i0001", "i0002", "i0002-0", "i0002-1"]
    assert [near.id for near in found.neighbours] == expected
    assert found.certificate.tie == 5100
    assert sum(read) <= 100 + 2 * 5


def test_estimated_squares_below_zero_keep_their_order(store: Store) -> None:
    model = Model(store.create("c", 64, metric="euclidean"), HASHERS["euclidean", 64])
    rows = (X[0] + RNG.normal(0, 0.01, (300, D))).astype(np.float32)
    model.upsert([f"i{i:03}" for i in range(300)], rows)
    (found,) = model.search(SearchOptions(300), X[:1])
    scores = np.array(model.scores(found))
    terms, factors = model.hasher.query_terms(X[:1]), model.hasher.factors(rows)
    squares = estimates(terms, model.hasher.encode(rows), factors)[0]
    places = [int(near.id[1:]) for near in found.neighbours]
    assert (scores < 0).sum() > 50
    np.testing.assert_allclose(scores * np.abs(scores), squares[places], atol=1e-4)
    assert (np.diff(scores) >= 0).all()
    for k in (1, 20, 299):
        (cut,) = model.search(SearchOptions(k), X[:1])
        assert cut.certificate.tie == (scores == scores[k - 1]).sum()
        (within,) = model.search(SearchOptions(300, max_score=scores[k - 1]), X[:1])
        assert len(within.neighbours) == np.searchsorted(scores, scores[k - 1], side="right")


def test_max_score_cuts_and_counts(model: Model) -> None:
    model.upsert([f"i{i:03}" for i in range(300)], X[:300])
    every = [model.scores(found) for found in model.search(SearchOptions(300))]
    for query, scores in enumerate(every):
        limit = (scores[20] + scores[21]) / 2
        one = QUERIES[query : query + 1]
        (found,) = model.search(SearchOptions(100, max_score=limit), one)
        assert [near.score for near in found.neighbours] == scores[:21]
        assert (found.certificate.within, found.certificate.truncated) == (21, False)
        (cut,) = model.search(SearchOptions(5, max_score=limit, count_within=True), one)
        assert [near.score for near in cut.neighbours] == scores[:5]
        assert (cut.certificate.within, cut.certificate.truncated) == (21, True)
        (cut,) = model.search(SearchOptions(5, max_score=limit), one)
        assert cut.certificate.within is None
        (none,) = model.search(SearchOptions(5, max_score=scores[0] - 1), one)
        assert (none.neighbours, none.certificate.tie, none.certificate.error_bound) == ([], 0, 0)


def test_reranking_sorts_the_first_estimates_by_descriptors(store: Store) -> None:
    collection = store.create("c", 64, metric="euclidean", keep_descriptors=True)
    model = Model(collection, HASHERS["euclidean", 64])
    model.upsert([f"i{i:03}" for i in range(300)], X[:300])
    exact = np.linalg.norm(QUERIES[:, None] - X[:300], axis=2)
    for query, found in enumerate(model.search(SearchOptions(5, rerank=300))):
        order = np.argsort(exact[query])[:5]
        assert [near.id for near in found.neighbours] == [f"i{i:03}" for i in order]
        np.testing.assert_allclose(model.scores(found), exact[query][order], rtol=1e-5)


def test_queries_of_equal_numbers_and_one_bit(store: Store) -> None:
    hasher = RaBitQ(1).fit([[0.0]])
    collection = store.create("c", 1, metric="euclidean")
    rows = np.array([[-2.0], [0.0], [3.0], [1.0]])
    collection.upsert(list("abcd"), hasher.encode(rows), factors=hasher.factors(rows))
    queries = np.array([[0.0], [2.5], [-5.0]])
    found = collection.search(
        hasher.encode(queries), SearchOptions(4), terms=hasher.query_terms(queries)
    )
    for (query,), one in zip(queries, found, strict=True):
        expected = sorted(
            (abs(query - row), item) for (row,), item in zip(rows, "abcd", strict=True)
        )
        np.testing.assert_allclose(
            [near.score or 0 for near in one.neighbours], [d for d, _ in expected], atol=1e-3
        )
        assert one.neighbours[0].id == expected[0][1]


def test_a_query_at_the_centre(store: Store) -> None:
    model = Model(store.create("c", 64, metric="euclidean"), HASHERS["euclidean", 64])
    model.upsert([f"i{i}" for i in range(50)], X[:50])
    centre = model.hasher.center_[None]
    (found,) = model.search(SearchOptions(50), centre)
    np.testing.assert_allclose(
        model.scores(found), np.sort(np.linalg.norm(X[:50] - centre, axis=1)), rtol=1e-5
    )
    assert found.certificate.error_bound == pytest.approx(0, abs=1e-5)


def test_what_does_not_fit_is_refused(store: Store) -> None:
    hasher = HASHERS["dot", 20]
    plain, ranked = store.create("p", 20), store.create("r", 20, metric="dot")
    codes, factors = hasher.encode(X[:2]), hasher.factors(X[:2], "dot")
    with pytest.raises(InvalidItems, match="ranked by Hamming distance have no factors"):
        plain.upsert(["a", "b"], codes, factors=factors)
    with pytest.raises(InvalidItems, match="'dot' need the factors"):
        ranked.upsert(["a", "b"], codes)
    with pytest.raises(InvalidItems, match=r"factors of shape \(2, 3\), got \(1, 3\)"):
        ranked.upsert(["a", "b"], codes, factors=factors[:1])
    for column, wrong in ((0, -1), (1, np.inf), (2, np.nan)):
        bad = factors.copy()
        bad[1, column] = wrong
        with pytest.raises(InvalidItems, match=r"finite factors.* those of item 1 are"):
            ranked.upsert(["a", "b"], codes, factors=bad)
    assert len(ranked) == 0
    with pytest.raises(InvalidItems, match="give max_score"):
        ranked.search(codes, SearchOptions(1, radius=3))
    with pytest.raises(InvalidItems, match="radius takes the place of max_score"):
        plain.search(codes, SearchOptions(1, max_score=3))
    with pytest.raises(InvalidItems, match="finite number"):
        SearchOptions(1, max_score=np.nan)
    with pytest.raises(InvalidItems, match="terms of the queries"):
        ranked.search(codes, SearchOptions(1))
    with pytest.raises(InvalidItems, match="expected terms of 2 queries for 20 bits"):
        ranked.search(codes, SearchOptions(1), terms=hasher.query_terms(X[:3], "dot"))
    for size in (1e17, 1e24):
        huge = hasher.query_terms(size * X[:2], "dot")
        with pytest.raises(InvalidItems, match="scale the descriptors down"):
            ranked.search(codes, SearchOptions(1), terms=huge)


def test_a_search_gives_up_when_told_to(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "SCAN_ESTIMATES", 1)
    model = Model(store.create("c", 20, metric="dot"), HASHERS["dot", 20])
    model.upsert(["a", "b"], X[:2])
    many = np.repeat(QUERIES[:1], 3 * estimate.SCAN_QUERIES + 1, axis=0)
    calls: list[int] = []

    def give_up() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        model.collection.search(
            model.hasher.encode(many),
            SearchOptions(1),
            terms=model.hasher.query_terms(many, "dot"),
            checkpoint=give_up,
        )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_each_true_neighbour_is_found_with_the_confidence(
    store: Store, metric: Metric, confidence: float
) -> None:
    n, d, n_bits = 1500, 48, 48
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(60, d))
    rows = (centres[rng.integers(0, 60, n)] + rng.normal(0, 0.6, (n, d))).astype(np.float32)
    queries = (centres[rng.integers(0, 60, 20)] + rng.normal(0, 0.6, (20, d))).astype(np.float32)
    exact = {
        "euclidean": np.linalg.norm(queries[:, None] - rows, axis=2),
        "dot": -queries @ rows.T,
        "cosine": 1
        - queries
        @ rows.T
        / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(rows, axis=1)),
    }[metric]
    nearest = np.argsort(exact, axis=1)[:, :10]
    found_share, reranked = [], []
    for seed in range(2):
        hasher = RaBitQ(n_bits, normalize=metric == "cosine", random_state=seed).fit(rows)
        collection = store.create(f"c{seed}", n_bits, metric=metric, keep_descriptors=True)
        model = Model(collection, hasher)
        model.upsert([f"i{i:04}" for i in range(n)], rows)
        found = collection.search(
            hasher.encode(queries),
            SearchOptions(10, confidence=confidence),
            descriptors=queries,
            terms=hasher.query_terms(queries, metric),
            epsilon=epsilon_for(confidence, d),
        )
        for query, one in enumerate(found):
            ids = {f"i{i:04}" for i in nearest[query]}
            found_share.append(len(ids & {near.id for near in one.neighbours}) / 10)
            scores = [near.score or 0 for near in one.neighbours]
            assert scores == sorted(scores)
            places = [int(near.id[1:]) for near in one.neighbours]
            np.testing.assert_allclose(scores, exact[query, places], atol=1e-4)
            about = one.certificate
            assert (about.confidence, about.error_bound) == (confidence, None)
            assert about.exact == (about.reranked == n)
            reranked.append(about.reranked or 0)
    assert np.mean(found_share) >= confidence
    assert np.mean(reranked) < 0.9 * n


def test_what_is_certain_is_called_exact(store: Store) -> None:
    hasher = HASHERS["euclidean", 64]
    collection = store.create("c", 64, metric="euclidean", keep_descriptors=True)
    model = Model(collection, hasher)

    def search(options: SearchOptions) -> list[Found]:
        return collection.search(
            hasher.encode(QUERIES),
            options,
            descriptors=QUERIES,
            terms=hasher.query_terms(QUERIES),
            epsilon=epsilon_for(0.99, D),
        )

    assert not search(SearchOptions(3, confidence=0.99))[0].neighbours
    ids = [f"i{i}" for i in range(20)]
    model.upsert(ids, np.repeat(X[:10], 2, axis=0), label=1)
    model.upsert(["far"], X[:1] + 100)
    (one, *_) = search(SearchOptions(30, confidence=0.99))
    assert (one.certificate.exact, one.certificate.reranked) == (True, 21)
    assert one.neighbours[-1].id == "far"
    names = [near.id for near in one.neighbours]
    assert [min(names[i], names[i + 1]) for i in range(0, 20, 2)] == names[0:20:2]
    only = search(SearchOptions(30, confidence=0.99, where=Filter({"label": 1})))[0]
    assert [near.id for near in only.neighbours] == names[:-1]
    (pair, *_) = search(SearchOptions(1, confidence=0.99))
    assert pair.certificate.tie == 2
    second = search(SearchOptions(1, offset=1, confidence=0.99))[0]
    assert [pair.neighbours[0].id, second.neighbours[0].id] == names[:2]


def test_an_item_is_found_by_its_own_descriptor(store: Store) -> None:
    collection = store.create("c", 64, metric="euclidean", keep_descriptors=True)
    hasher = HASHERS["euclidean", 64]
    Model(collection, hasher).upsert([f"i{i:03}" for i in range(900)], X)
    queries = X[::15]
    found = collection.search(
        hasher.encode(queries),
        SearchOptions(1, confidence=0.5),
        descriptors=queries,
        terms=hasher.query_terms(queries),
        epsilon=epsilon_for(0.5, D),
    )
    assert np.mean([one.neighbours[0].id == f"i{15 * i:03}" for i, one in enumerate(found)]) >= 0.5


def test_a_confidence_that_cannot_be_is_refused(store: Store) -> None:
    for confidence in (0.4, 1.0, np.nan):
        with pytest.raises(InvalidItems, match=r"at least 0\.5 and below 1"):
            SearchOptions(1, confidence=confidence)
    with pytest.raises(InvalidItems, match="replaces rerank"):
        SearchOptions(1, confidence=0.9, rerank=5)
    codes, options = HASHERS["dot", 20].encode(QUERIES), SearchOptions(1, confidence=0.9)
    with pytest.raises(InvalidItems, match="'plain' ranks by the Hamming distance"):
        store.create("plain", 20, keep_descriptors=True).search(codes, options)
    with pytest.raises(InvalidItems, match="'none' keeps no descriptors"):
        store.create("none", 20, metric="dot").search(codes, options)
    kept = store.create("kept", 20, metric="dot", keep_descriptors=True)
    with pytest.raises(InvalidItems, match="terms of the queries"):
        kept.search(codes, options)
    terms = HASHERS["dot", 20].query_terms(QUERIES, "dot")
    with pytest.raises(InvalidItems, match="confidence takes the descriptors"):
        kept.search(codes, options, terms=terms)
    with pytest.raises(InvalidItems, match="give max_score"):
        kept.search(codes, SearchOptions(1, radius=3, confidence=0.9), terms=terms)
