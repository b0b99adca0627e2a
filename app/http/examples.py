"""Examples of every call for the OpenAPI document; they belong to one small collection."""

from __future__ import annotations

from typing import Any

_FINGERPRINT = "1be031d77ff38a4cdbefde2a0459e90cd270fc87a2f60447d20411897f671575"
_SNAPSHOT = "things-20261124T000255747577.snapshot"
_JOB, _BENCHMARK, _RECOMMENDATION = "295f20d59224", "a2d2ea20292b", "5d0c1a7b64f2"
_ENCODER = {
    "name": "mine",
    "method": "lsh",
    "n_bits": 16,
    "dimension": 4,
    "params": {"center": True, "scale": False, "random_state": 7},
    "fingerprint": _FINGERPRINT,
}
_COLLECTION = {
    "name": "things",
    "encoder": "mine",
    "fingerprint": _FINGERPRINT,
    "n_bits": 16,
    "items": 2,
    "keep_descriptors": True,
    "descriptor_type": "float32",
    "ranking": "hamming",
    "metric": None,
}
_RUNNING = {
    "id": _BENCHMARK,
    "kind": "benchmark",
    "state": "running",
    "request": {"dataset": "digits", "rows": [["raw", None], ["lsh", 16]], "seeds": [0]},
    "progress": {"done": 1, "of": 3, "now": "lsh, 16 bits, seed 0", "seconds_left": 1.5},
    "result": None,
    "error": None,
    "created": 1795478575.75,
    "started": 1795478575.81,
    "ended": None,
}
_RECOMMENDED = {
    "id": _RECOMMENDATION,
    "kind": "recommendation",
    "state": "done",
    "request": {"dataset": "digits", "goal": {"within": 2, "k": 10, "rerank": 200}, "seed": 0}
    | {"methods": None, "max_bits": 512, "seconds": None, "items": 10000},
    "progress": None,
    "result": {
        "answer": "Use `sdh` with 8 bits: 91.4 % mAP, 27.1 points above raw, 1536 times smaller.",
        "reached": True,
        "confirmed": True,
        "recommended": {
            "method": "sdh",
            "n_bits": 8,
            "bytes_per_item": 1,
            "collection": {"ranking": "hamming", "metric": None, "keep_descriptors": False},
            "query": {},
        },
    },
    "error": None,
    "created": 1795478575.75,
    "started": 1795478575.76,
    "ended": 1795478583.82,
}
_REENCODED = {
    "id": _JOB,
    "kind": "reencoding",
    "state": "done",
    "request": {"collection": "things", "encoder": "mine"},
    "progress": None,
    "result": {
        "collection": "things",
        "encoder": "mine",
        "fingerprint": _FINGERPRINT,
        "n_bits": 16,
        "items": 2,
    },
    "error": None,
    "created": 1795478575.75,
    "started": 1795478575.76,
    "ended": 1795478575.82,
}
_EXPLANATION = "5c0fd1f1a7b3"
_EXPLAINED = {
    "id": _EXPLANATION,
    "kind": "explanation",
    "state": "done",
    "request": {
        "dataset": "digits",
        "laws": ["width"],
        "encoder": None,
        "items": 10000,
        "seed": 0,
    },
    "progress": None,
    "result": {
        "dataset": {"name": "digits", "items": 1797, "sampled": 1797, "dimension": 384},
        "trained": None,
        "n_bits": 64,
        "seed": 0,
        "findings": [
            {
                "law": {
                    "key": "width",
                    "question": "How many dimensions do the data really use?",
                    "statement": "The Gaussian mean width ω is how far apart …",
                    "limit": "N items cannot show a dimension above 2 ln N …",
                    "source": "Plan, Vershynin 2013 …",
                },
                "answer": "1,797 descriptors of dimension 384 have a mean width of 6.06 …",
                "figures": [
                    {
                        "name": "mean width ω",
                        "estimate": {"value": 6.06, "low": 5.96, "high": 6.17},
                        "text": "6.06 (5.96 to 6.17)",
                    }
                ],
                "plots": [
                    {
                        "caption": "The dimension (ω/2)² of the descriptors …",
                        "x_label": "random layers",
                        "y_label": "(ω/2)²",
                        "series": [
                            {
                                "name": "measured",
                                "points": [[0.0, 9.2], [1.0, 6.7]],
                                "bars": [[8.9, 9.5], [6.5, 6.9]],
                                "law": False,
                            }
                        ],
                        "log_x": False,
                        "log_y": False,
                        "categories": ["none", "one"],
                    }
                ],
                "problem": None,
            }
        ],
    },
    "error": None,
    "created": 1795478575.75,
    "started": 1795478575.76,
    "ended": 1795478577.31,
}
_SNAPSHOT_FILE = {"snapshot": _SNAPSHOT, "bytes": 1024, "created": 1795478575.75}
_DATASET = {"dataset": "faces", "bytes": 153_600_128, "created": 1795478575.75}
_DUPLICATES = {
    "id": _JOB,
    "kind": "duplicates",
    "state": "done",
    "request": {"collection": "things", "radius": 8, "filter": None, "max_pairs": 1000000},
    "progress": None,
    "result": {
        "collection": "things",
        "radius": 8,
        "items": 2,
        "groups": 1,
        "grouped": 2,
        "pairs": 1,
        "truncated": False,
        "largest": [{"items": 2, "pairs": 1, "farthest": 6, "ids": ["cup", "spoon"]}],
    },
    "error": None,
    "created": 1795478575.75,
    "started": 1795478575.76,
    "ended": 1795478575.82,
}
_CUP = {"id": "cup", "code": "7092", "label": 1, "payload": {"price": 3}}
_PIXEL = (  # A PNG file of one black pixel.
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
_QUERY_DESCRIPTORS = [[0.1, -0.3, 0.8, 0.5]]

PARAMETERS: dict[str, Any] = {
    "name": "things",
    "item_id": "cup",
    "job": _JOB,
    "benchmark": _BENCHMARK,
    "explanation": _EXPLANATION,
    "recommendation": _RECOMMENDATION,
    "snapshot": _SNAPSHOT,
    "dataset": "faces",
    "keep": 3,
    "limit": 100,
    "holds": "codes",
    "fingerprint": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "method": "itq",
    "n_bits": 64,
    "params": '{"random_state": 7}',
    "k": 10,
    "radius": 8,
    "false_match_rate": 0.001,
    "calibrated": True,
    "max_score": 0.5,
    "payloads": True,
    "codes": False,
    "return_codes": False,
    "offset": 0,
    "rerank": 100,
    "rerank_by": "bits",
    "confidence": 0.99,
}
"""Example of each parameter, by its name."""

BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/encoders": {
        "data-free": {
            "name": "mine",
            "method": "lsh",
            "n_bits": 16,
            "dimension": 4,
            "params": {"random_state": 7},
        },
        "for estimated distances": {
            "name": "turned",
            "method": "rabitq",
            "n_bits": 16,
            "dimension": 4,
        },
        "trained on a dataset": {
            "name": "trained",
            "method": "itq",
            "n_bits": 64,
            "training": {"dataset": "digits"},
        },
    },
    "POST /v1/encoders/{name}/encode": {"one descriptor": {"descriptors": _QUERY_DESCRIPTORS}},
    "POST /v1/gist": {"one image": {"images": [_PIXEL]}},
    "POST /v1/collections": {
        "for the codes of an encoder": {
            "name": "things",
            "encoder": "mine",
            "keep_descriptors": True,
        },
        "for codes of your own": {"name": "hashes", "n_bits": 64},
        "ranked by estimated distances": {
            "name": "texts",
            "encoder": "turned",
            "ranking": "estimate",
            "metric": "euclidean",
        },
    },
    "PUT /v1/collections/{name}": {"one collection": {"encoder": "mine", "keep_descriptors": True}},
    "PUT /v1/collections/{name}/items": {
        "two items": {
            "items": [
                {
                    "id": "cup",
                    "descriptor": [0.1, -0.2, 0.9, 0.4],
                    "label": 1,
                    "payload": {"price": 3},
                },
                {"id": "spoon", "descriptor": [-0.7, 0.2, 0.1, 0.6], "label": 2},
            ]
        },
        "codes of your own": {
            "items": [
                {"id": "sunset.jpg", "code": "e1c3873c78f0e187", "payload": {"album": "2024"}},
                {"id": "beach.jpg", "code": "9f1b2a6c04d7e835"},
            ]
        },
    },
    "POST /v1/collections/{name}/query": {
        "by descriptor": {"descriptors": _QUERY_DESCRIPTORS, "k": 2},
        "by item": {"ids": ["cup"], "radius": 8},
        "by code": {"codes": ["7096"], "k": 2, "return_codes": True},
        "filtered": {
            "descriptors": _QUERY_DESCRIPTORS,
            "filter": {"label": {"in": [1, 2]}, "price": {"lt": 5}},
        },
        "reranked": {"descriptors": _QUERY_DESCRIPTORS, "k": 1, "rerank": 2},
        "calibrated": {"descriptors": _QUERY_DESCRIPTORS, "k": 2, "calibrated": True},
    },
    "PATCH /v1/collections/{name}/items/{item_id}": {
        "one field of the payload": {"payload": {"price": 4}},
        "no label": {"label": None},
    },
    "PATCH /v1/collections/{name}/items": {
        "two items": {
            "items": [
                {"id": "cup", "label": 1, "payload": {"price": 3}},
                {"id": "spoon", "payload": {"tags": ["new"]}},
            ]
        }
    },
    "POST /v1/collections/{name}/items/count": {
        "of a label": {"filter": {"label": {"in": [1, 2]}}}
    },
    "POST /v1/collections/{name}/items/list": {
        "of a price": {"filter": {"price": {"lt": 5}}, "limit": 100}
    },
    "POST /v1/collections/{name}/items/delete": {
        "one item": {"ids": ["spoon"]},
        "those that match": {"filter": {"tags": {"contains": "old"}}},
    },
    "POST /v1/collections/{name}/reencode": {"another encoder": {"encoder": "mine"}},
    "POST /v1/collections/{name}/duplicates": {
        "all items": {"radius": 8},
        "some items": {"radius": 8, "filter": {"label": {"in": [1, 2]}}, "max_pairs": 1000},
    },
    "POST /v1/collections/{name}/restore": {"one snapshot": {"snapshot": _SNAPSHOT}},
    "POST /v1/recommendations": {
        "with labels": {"dataset": "digits", "within": 2},
        "without labels": {"dataset": "digits", "recall": 0.95, "k": 10, "rerank": 200},
        "of a size": {"dataset": "digits", "bytes": 8},
    },
    "POST /v1/recommendations/{recommendation}/make": {"a new name": {"name": "small"}},
    "POST /v1/benchmarks": {
        "of a dataset": {"dataset": "digits", "methods": ["raw", "lsh"], "bits": [16, 64]},
        "of a collection": {"collection": "things", "methods": ["itq"], "seeds": [0, 1, 2]},
        "without labels": {
            "dataset": "digits",
            "methods": ["sign", "itq"],
            "protocol": "neighbours",
            "k": 10,
        },
    },
    "POST /v1/explanations": {
        "of a dataset": {"dataset": "digits", "laws": ["width", "privacy"]},
        "of a collection": {"collection": "things", "encoder": "mine"},
    },
}
"""Examples of each JSON body, by call and title."""

ANSWERS: dict[str, Any] = {
    "GET /healthz 200": {"status": "ok"},
    "GET /readyz 200": {"status": "ready", "collections": 1},
    "GET /metrics 200": 'bitcell_items{collection="things"} 2.0\n',
    "GET /v1/encoders 200": [_ENCODER],
    "POST /v1/encoders 201": _ENCODER,
    "POST /v1/encoders 202": {"id": _JOB, "url": f"/v1/jobs/{_JOB}"},
    "GET /v1/encoders/{name} 200": _ENCODER,
    "PUT /v1/encoders/{name} 201": _ENCODER,
    "POST /v1/encoders/{name}/encode 200": {"codes": ["7096"], "n_bits": 16},
    "GET /v1/methods 200": [
        {"method": "lsh", "data_free": True, "needs_labels": False, "needs_torch": False}
    ],
    "GET /v1/datasets 200": ["digits", "faces"],
    "GET /v1/datasets/{dataset} 200": _DATASET,
    "PUT /v1/datasets/{dataset} 201": _DATASET
    | {"items": 100_000, "dimension": 384, "labelled": 100_000, "classes": 500, "queries": 0},
    "POST /v1/gist 200": {"descriptors": [[0.0] * 384]},
    "GET /v1/collections 200": [_COLLECTION],
    "POST /v1/collections 201": _COLLECTION | {"items": 0},
    "GET /v1/collections/{name} 200": _COLLECTION,
    "PUT /v1/collections/{name} 200": _COLLECTION,
    "PUT /v1/collections/{name} 201": _COLLECTION | {"items": 0},
    "POST /v1/collections/{name}/reencode 202": {"id": _JOB, "url": f"/v1/jobs/{_JOB}"},
    "POST /v1/collections/{name}/duplicates 202": {"id": _JOB, "url": f"/v1/jobs/{_JOB}"},
    "POST /v1/collections/{name}/snapshots 201": {"snapshot": _SNAPSHOT, "items": 2},
    "GET /v1/snapshots 200": [_SNAPSHOT_FILE],
    "PUT /v1/snapshots/{snapshot} 201": _SNAPSHOT_FILE,
    "POST /v1/collections/{name}/restore 201": _COLLECTION | {"name": "things-again"},
    "PUT /v1/collections/{name}/items 200": {"upserted": 2, "items": 2},
    "GET /v1/collections/{name}/statistics 200": {
        "items": 2,
        "n_bits": 2,
        "bits": {
            "looked": 2,
            "ones": [0.5, 1.0],
            "constant": 1,
            "mean_correlation": 0.0,
            "most_correlated": [{"bits": [0, 1], "correlation": 0.0}],
            "heat_map": [[1.0, 0.0], [0.0, 0.0]],
        },
        "buckets": {
            "looked": 2,
            "codes": 2,
            "largest": 1,
            "sizes": [{"least": 1, "most": 1, "codes": 2, "items": 2}],
        },
        "drift": None,
    },
    "POST /v1/collections/{name}/drift/reference 200": {
        "alarm": False,
        "alarms": 0,
        "windows": 0,
        "tested": 12,
        "false_alarm_rate": 0.03,
        "reference": 2048,
        "waiting": 0,
        "tests": [],
    },
    "GET /v1/collections/{name}/items 200": {"items": [_CUP], "of": 2},
    "GET /v1/collections/{name}/items/{item_id} 200": _CUP,
    "PATCH /v1/collections/{name}/items/{item_id} 200": _CUP | {"payload": {"price": 4}},
    "PATCH /v1/collections/{name}/items 200": {"changed": 2, "items": 2},
    "POST /v1/collections/{name}/items/count 200": {"count": 2},
    "POST /v1/collections/{name}/items/list 200": {"items": [_CUP], "of": 1},
    "POST /v1/collections/{name}/items/delete 200": {"deleted": 1},
    "POST /v1/collections/{name}/query 200": {
        "results": [
            [
                {"id": "cup", "distance": 1, "label": 1, "payload": {"price": 3}},
                {"id": "spoon", "distance": 5, "label": 2},
            ]
        ],
        "certificates": [{"exact": True, "radius": 16, "looked": 2, "tie": 1}],
    },
    "GET /v1/jobs 200": [_RUNNING, _REENCODED, _DUPLICATES | {"result": None}],
    "GET /v1/jobs/{job} 200": _REENCODED,
    "GET /v1/jobs/{job}/groups 200": '{"items":["cup","spoon"],"pairs":[[0,1,6]]}\n',
    "GET /v1/jobs/{job}/events 200": {"data": '{"id":"295f20d59224","state":"done"}'},
    "POST /v1/recommendations 202": {
        "id": _RECOMMENDATION,
        "url": f"/v1/recommendations/{_RECOMMENDATION}",
    },
    "GET /v1/recommendations 200": [_RECOMMENDED | {"result": None}],
    "GET /v1/recommendations/{recommendation} 200": _RECOMMENDED,
    "GET /v1/recommendations/{recommendation}/report 200": "<!doctype html>…",
    "POST /v1/recommendations/{recommendation}/make 201": _COLLECTION
    | {"name": "small", "encoder": "small", "items": 0, "keep_descriptors": False}
    | {"descriptor_type": None},
    "POST /v1/benchmarks 202": {"id": _BENCHMARK, "url": f"/v1/benchmarks/{_BENCHMARK}"},
    "GET /v1/benchmarks 200": [_RUNNING],
    "GET /v1/benchmarks/{benchmark} 200": _RUNNING,
    "GET /v1/benchmarks/{benchmark}/report 200": "<!doctype html>…",
    "POST /v1/explanations 202": {"id": _EXPLANATION, "url": f"/v1/explanations/{_EXPLANATION}"},
    "GET /v1/explanations 200": [_EXPLAINED | {"result": None}],
    "GET /v1/explanations/{explanation} 200": _EXPLAINED,
    "GET /v1/explanations/{explanation}/report 200": "<!doctype html>…",
}
"""Example of each answer, by call and status."""

PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "expected descriptors of dimension 384, got 3",
}
DISK_FULL = {
    "type": "about:blank",
    "title": "Insufficient Storage",
    "status": 507,
    "detail": "the disk is full; nothing of this write was kept",
}

UNAVAILABLE = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": "Milvus at milvus:19530 did not answer within 10 s: try again later",
}
