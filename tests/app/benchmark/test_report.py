"""The report is parsed: what it shows must be what was measured."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.benchmark.report import POLICY, style
from app.benchmark.report.drawing import BOTTOM, LEFT, RIGHT, TOP
from app.benchmark.report.pictures import SIDE, shown_length
from app.benchmark.report.published import CIFAR10
from app.benchmark.report.render import render
from app.benchmark.report.style import BASELINE_MARKS, FAISS_MARKS, MARKS, style_of
from app.benchmark.rows import rows
from app.benchmark.run import run
from app.benchmark.splits import UNSEEN, UNSEEN_ONLY, Protocol
from app.cli.benchmark_output import print_result
from app.datasets.dataset import Dataset

VOID = {"meta", "link", "rect", "path", "polyline"}
NONE = "\N{EN DASH}"
NAMES = ["ant", "bee & <b>", "cow", "d'oe"]


def make_dataset(
    name: str = "mine", d: int = 16, classes: int = 4, *, pictures: bool = True
) -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(classes), 30))
    n = len(labels)
    return Dataset(
        name=name,
        descriptors=(rng.normal(size=(n, d)) + 2 * np.eye(classes, d)[labels]).astype(np.float32),
        labels=labels,
        ids=np.array([f"item <{i}>" for i in range(n)]),
        class_names=np.array(NAMES) if classes == 4 else None,
        images=rng.integers(0, 256, (n, 8, 8, 3), np.uint8) if pictures else None,
    )


def measured(
    dataset: Dataset,
    methods: str = "raw lsh random-net-2",
    bits: tuple[int, ...] = (8, 16),
    seeds: tuple[int, ...] = (0, 1),
    protocol: str = Protocol.name,
) -> dict[str, Any]:
    """A result as it is stored: from JSON."""
    result = run(dataset, rows(methods.split(), bits), Protocol(protocol), seeds)
    loaded: dict[str, Any] = json.loads(json.dumps(result))
    return loaded


@pytest.fixture(scope="module")
def mine() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="module")
def result(mine: Dataset) -> dict[str, Any]:
    return measured(mine)


@pytest.fixture(scope="module")
def page(result: dict[str, Any], mine: Dataset) -> str:
    return render(result, mine)


def test_rare_classes_are_named(mine: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    few = np.append(np.flatnonzero(mine.labels < 2), np.flatnonzero(mine.labels == 2)[:9])
    few = np.append(few, np.flatnonzero(mine.labels == 3)[:3])
    labels, descriptors = mine.labels[few], mine.descriptors[few]
    rare = replace(mine, labels=labels, descriptors=descriptors, ids=mine.ids[few], images=None)
    result = measured(rare, "raw", seeds=(0,))
    print_result(result)
    notes = [
        "Rare classes have fewer queries and labels: cow (items: 9, queries: 1, labels: 3).",
        "Left out, without queries and labels, because they have fewer than 4 items: "
        "d'oe (items: 3).",
    ]
    printed, page = capsys.readouterr().out, unescape(render(result, rare))
    for note in notes:
        assert note in printed
        assert note in page
    assert "Every class has as many queries" not in page


class Reader(HTMLParser):
    """Parses a page into its tags, its table and its strips; fails if a tag is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.table: list[list[str]] = []
        self.strips: list[tuple[str, list[dict[str, str | None]]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append("")
        elif dict(attrs).get("class") == "strip":
            self.strips.append((str(dict(attrs)["aria-label"]), []))
        elif tag == "i" and self.open[-3:-1] == ["div", "div"]:
            self.strips[-1][1].append(dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.table[-1][-1] += " " * ("span" in self.open) + data

    def row(self, method: str, n_bits: int | None) -> dict[str, str]:
        head = f"{method} {n_bits or ''}".strip()
        (found,) = (row for row in self.table if row[0] == head)
        return dict(zip(self.table[0], found, strict=False))


def figures(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def lines(svg: ElementTree.Element) -> dict[str, NDArray[np.float64]]:
    """The points of each method's line."""
    found = {}
    for group in svg.iter("g"):
        title, line = group.find("title"), group.find("polyline")
        if title is not None and line is not None:
            pairs = [pair.split(",") for pair in line.attrib["points"].split()]
            found[str(title.text)] = np.array(pairs, float)
    return found


def ticks(svg: ElementTree.Element, axis: str) -> tuple[list[float], list[float]]:
    """Coordinates and values of the ticks of an axis, by ascending coordinate."""
    (group,) = (g for g in svg.iter("g") if g.get("class") == axis)
    read = sorted((float(t.attrib[axis]), float(str(t.text))) for t in group)
    return [at for at, _ in read], [value for _, value in read]


def test_the_table_has_every_figure(result: dict[str, Any], page: str) -> None:
    reader = Reader(page)
    assert len(reader.table) == 1 + len(result["results"])
    for row in result["results"]:
        shown = reader.row(row["method"], row["n_bits"])
        low, high = row["map_interval"]
        expected = {
            "mAP %": f"{100 * row['map']:.2f}",
            "± seeds": f"{100 * row['map_spread']:.2f}",
            "95 % interval": f"{100 * low:.2f}{NONE}{100 * high:.2f}",
            "P@100": f"{100 * row['precision_100']:.1f}",
            "P@1000": f"{100 * row['precision_1000']:.1f}",
            "NN@100": f"{100 * row['recall_neighbours_100']:.1f}",
            "fit s": f"{row['fit_seconds']:.2f}",
            "encode s": f"{row['encode_seconds']:.2f}",
            "bytes": f"{row['bytes_per_item']:.0f}",
        }
        radius = ("precision_radius_2", "recall_radius_2", "empty_radius_2")
        for heading, key in zip(("P r≤2", "R r≤2", "none r≤2"), radius, strict=True):
            expected[heading] = NONE if row["method"] == "raw" else f"{100 * row[key]:.1f}"
        asymmetric = row["map_asymmetric"]
        expected["asym"] = NONE if asymmetric is None else f"{100 * asymmetric:.2f}"
        expected["difference"] = NONE
        if difference := row["difference"]:
            low, high = difference["interval"]
            expected["difference"] = (
                f"{100 * difference['mean']:+.1f} ({100 * low:+.1f}, {100 * high:+.1f})"
            )
        assert shown.pop("method, bits")
        assert shown == expected


def test_the_best_of_each_length_are_marked_and_so_are_equals(
    result: dict[str, Any], mine: Dataset
) -> None:
    lsh, net = ([r for r in result["results"] if r["method"] == m] for m in ("lsh", "random-net-2"))
    changed = result | {
        "results": [
            lsh[0] | {"map": 0.5},
            lsh[1] | {"map": 0.7},
            net[0] | {"map": 0.500001},
            net[1] | {"map": 0.6},
        ]
    }
    marked = re.findall(r'class="best" title="best at (\d+) bits">([\d.]+)<', render(changed, mine))
    assert marked == [("8", "50.00"), ("16", "70.00"), ("8", "50.00")]


def test_the_page_says_what_intervals_rest_on_and_what_is_compared(
    result: dict[str, Any], mine: Dataset, page: str
) -> None:
    text = Reader(page).text
    assert "Intervals rest on 2 seeds. They cover the mean over all seeds on this dataset" in text
    one = Reader(render(measured(mine, bits=(8,), seeds=(0,)), mine)).text
    assert "Intervals rest on one seed. They cover further queries of the same codes, but no" in one
    (best,) = (row for row in result["results"] if row["n_bits"] == 16 and not row["difference"])
    assert f"The reference is {best['method']}." in text
    assert result["results"][0]["difference"] is None  # `raw` has no code length
    mixed = json.loads(json.dumps(result))
    mixed["results"][1]["difference"] = {"reference": "x", "mean": 0.1, "interval": [0, 0.2]}
    mixed["results"][2]["difference"] = {"reference": "y", "mean": 0.1, "interval": [0, 0.2]}
    assert "The reference is the method with ★ at the same code length." in render(mixed, mine)


def test_the_page_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "iframe", "img", "object", "base"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert str(attributes.get(name, "data:,")).startswith("data:")
    assert "://" not in page
    assert "@import" not in page
    assert all(url.startswith("data:image/png;") for url in re.findall(r"url\((.*?)\)", page))
    assert any(attributes.get("content") == POLICY for _, attributes in reader.tags)


def test_names_and_messages_are_escaped(mine: Dataset) -> None:
    hostile = "<script>alert('\"&')</script>"
    named = make_dataset(hostile)
    named = Dataset(
        **{**vars(named), "class_names": np.array([hostile] * 4), "ids": np.array([hostile] * 120)}
    )
    result = measured(named, protocol=UNSEEN)
    result["results"][-1] = {"method": hostile, "n_bits": 16, "error": hostile}
    result["protocol"]["scaled"] = hostile
    result["sheet"]["rows"].append({**result["sheet"]["rows"][-1], "method": hostile})
    result["results"].append({**result["results"][1], "method": hostile})
    page = render(result, named)
    reader = Reader(page)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert "<script" not in page
    assert all(name.isascii() for _, attributes in reader.tags for name in attributes)
    assert f"Binary codes on {hostile}" in reader.text
    assert len(figures(page)) == 7


@pytest.mark.parametrize("bits", [(8, 16, 24), (8,)])
def test_lines_of_map_show_the_values(mine: Dataset, bits: tuple[int, ...]) -> None:
    result = measured(mine, bits=bits)
    svg = figures(render(result, mine))[0]
    drawn = lines(svg)
    assert list(drawn) == ["raw", "lsh", "random-net-2"]
    x, n_bits = ticks(svg, "x")
    assert n_bits == list(bits)
    y, percent = ticks(svg, "y")
    for row in result["results"]:
        points = drawn[row["method"]]
        assert ((points >= [LEFT, TOP]) & (points <= [RIGHT, BOTTOM])).all()
        point = points[0 if row["n_bits"] is None else bits.index(row["n_bits"])]
        if row["n_bits"] is not None:
            lengths = np.exp2(np.interp(point[0], x, np.log2(n_bits)))
            assert lengths == pytest.approx(row["n_bits"], rel=1e-3)
        assert np.interp(point[1], y, percent) == pytest.approx(100 * row["map"], abs=0.02)
    assert drawn["raw"][:, 0].tolist() == [LEFT, RIGHT]
    label = svg.attrib["aria-label"]
    assert all(f"{100 * row['map']:.1f}" in label for row in result["results"])


def curves_at(page: str, kind: str) -> dict[int | None, ElementTree.Element]:
    """The plots of a kind of curve, by code length."""
    found = {}
    for svg in figures(page):
        label = svg.attrib["aria-label"]
        if label.startswith(kind):
            n_bits = re.search(r" at (\d+) bits", label)
            found[int(n_bits[1]) if n_bits else None] = svg
    return found


def decoded(svg: ElementTree.Element, *, log: bool = False) -> dict[str, NDArray[np.float64]]:
    """The values of each line, read from its points by the labels of the ticks."""
    (x, x_values), (y, y_values) = ticks(svg, "x"), ticks(svg, "y")
    found = {}
    for method, points in lines(svg).items():
        assert ((points >= [LEFT, TOP]) & (points <= [RIGHT, BOTTOM])).all()
        # Not np.interp: the axis goes beyond the last tick.
        slope, start = np.polyfit(x, np.log10(x_values) if log else x_values, 1)
        at = slope * points[:, 0] + start
        at = 10**at if log else at
        found[method] = np.stack([at, np.interp(points[:, 1], y, y_values)], axis=1)
    return found


def test_curves_show_the_values(result: dict[str, Any], page: str) -> None:
    recall, first, radius = (
        curves_at(page, f"Precision {kind}")
        for kind in ("against recall", "among the first N", "within a Hamming radius")
    )
    assert list(recall) == list(first) == list(radius) == [8, 16]
    for row in result["results"]:
        for n_bits in (8, 16) if row["n_bits"] is None else (row["n_bits"],):
            curve, ranks = 100 * np.array(row["curve"]), result["curve_ranks"]
            drawn = decoded(recall[n_bits])[row["method"]]
            np.testing.assert_allclose(drawn, curve, atol=0.03)
            drawn = decoded(first[n_bits], log=True)[row["method"]]
            np.testing.assert_allclose(drawn[:, 0], ranks, rtol=2e-3)
            np.testing.assert_allclose(drawn[:, 1], curve[:, 1], atol=0.03)
            drawn_radii = decoded(radius[n_bits])
            if row["n_bits"] is None:
                assert row["method"] not in drawn_radii
            else:
                expected = [(r, 100 * value) for r, value in enumerate(row["radius_curve"])]
                np.testing.assert_allclose(drawn_radii[row["method"]], expected, atol=0.03)
                assert len(expected) == n_bits + 1


def test_names_in_a_legend_do_not_overlap(result: dict[str, Any], mine: Dataset) -> None:
    (row,) = (r for r in result["results"] if (r["method"], r["n_bits"]) == ("lsh", 8))
    same = result | {"results": [{**row, "method": f"m{i}"} for i in range(12)]}
    for svg in figures(render(same, mine)):
        (names,) = (g for g in svg.iter("g") if g.get("class") == "names")
        heights = sorted(float(text.attrib["y"]) for text in names.iter("text"))
        assert len(heights) == 12
        assert min(np.diff(heights)) > 13
        assert heights[0] >= TOP
        assert heights[-1] <= BOTTOM


def test_eighteen_methods_and_the_baselines_look_different_without_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(style, "HASHERS", {f"m{i}": None for i in range(18)})
    others = (*BASELINE_MARKS, *FAISS_MARKS)
    looks = [style_of(method) for method in (*others, *(f"m{i}" for i in range(18)))]
    assert len({(look.mark, "again" in look.css) for look in looks}) == 24


def test_marks_stay_near_their_point() -> None:
    """A legend leaves room for marks of this size. All their commands are relative."""
    for mark in (*MARKS, *BASELINE_MARKS.values(), *FAISS_MARKS.values()):
        at = np.zeros(2)
        for command, numbers in re.findall(r"([mlhvaz])([^mlhvaz]*)", mark):
            values = [float(number) for number in re.findall(r"-?\d*\.?\d+", numbers)]
            step = {"h": [*values, 0], "v": [0, *values], "z": [0, 0]}.get(command, values[-2:])
            at = at + np.array(step, float)
            assert np.abs(at).max() <= 6
            if command == "z":
                break


def positions(tags: list[dict[str, str | None]]) -> Iterator[tuple[int, bool, str]]:
    for attributes in tags:
        first, place, *wrong = str(attributes["class"]).split()
        assert first == "picture"
        yield int(place[1:]), wrong == ["wrong"], str(attributes["title"])


def test_neighbours_of_other_classes_are_marked(
    result: dict[str, Any], mine: Dataset, page: str
) -> None:
    strips = iter(Reader(page).strips)
    shown = [row for row in result["sheet"]["rows"] if row["n_bits"] in (None, 16)]
    assert [row["method"] for row in shown] == ["raw", "lsh", "random-net-2"]
    wrongs = 0
    for i, query in enumerate(result["sheet"]["queries"]):
        for row in shown:
            said, tags = next(strips)
            found = list(positions(tags))
            assert [place for place, _, _ in found] == row["neighbours"][i]
            for place, wrong, title in found:
                assert wrong == (mine.labels[place] != mine.labels[query])
                assert title == f"{NAMES[mine.labels[place]]}, {mine.ids[place]}"
                wrongs += wrong
            right = sum(not wrong for _, wrong, _ in found)
            assert said.startswith(f"{row['method']}: {right} of 10 right: ")
    assert next(strips, None) is None
    assert wrongs


def test_the_picture_of_each_item_is_embedded_once(
    result: dict[str, Any], mine: Dataset, page: str
) -> None:
    embedded = re.findall(r"\.p(\d+)\{background-image:url\(data:image/png;base64,(.*?)\)\}", page)
    places = [int(place) for place, _ in embedded]
    used = {int(place) for place in re.findall(r"picture p(\d+)", page)}
    assert places == sorted(used)
    assert mine.images is not None
    for place, data in embedded:
        picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        np.testing.assert_array_equal(np.asarray(picture), mine.images[int(place)])


def test_large_pictures_are_shrunk() -> None:
    large = make_dataset()
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (120, 100, 200, 3), np.uint8)
    large = Dataset(**{**vars(large), "images": images})
    page = render(measured(large, "raw"), large)
    data = re.findall(r"base64,(.*?)\)", page)
    sizes = {Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in data}
    assert sizes == {(SIDE, SIDE // 2)}
    assert len(page) < 40_000 + 10_000 * len(data)


def test_the_sheet_shows_the_longest_common_length() -> None:
    def found(**lengths: list[int]) -> list[dict[str, Any]]:
        return [{"method": m, "n_bits": b} for m, bits in lengths.items() for b in bits]

    assert shown_length(found(a=[12, 24, 48], b=[12, 24])) == 24
    assert shown_length(found(a=[12], b=[24])) == 24
    assert shown_length([{"method": "raw", "n_bits": None}]) is None


def test_published_figures_are_shown_for_cifar10_only() -> None:
    cifar = make_dataset("cifar10", 384, 10)
    result = measured(cifar, "raw lsh", (12, 24, 48))
    like = next(row for row in result["results"] if row["method"] == "lsh")
    result["results"] += [
        {**like, "method": method, "n_bits": n_bits}
        for method in ("ksh", "siamese-2")
        for n_bits in (12, 24, 48, 64)
    ]
    reader = Reader(render(result, cifar))
    assert "Bronstein" in reader.text
    assert reader.row("raw", None)["published"] == "19.16"
    assert reader.row("lsh", 24)["published"] == reader.row("ksh", 64)["published"] == NONE
    for method in ("ksh", "siamese-2"):
        for n_bits in (12, 24, 48):
            shown = reader.row(method, n_bits)["published"]
            assert shown == f"{CIFAR10[method][n_bits]:.2f}"
    part = render(result | {"dataset": result["dataset"] | {"name": "cifar10-part"}}, cifar)
    assert "Bronstein" in part
    for change in ({"name": "mine"}, {"classes": 9}, {"dimension": 512}):
        other = render(result | {"dataset": result["dataset"] | change}, cifar)
        assert "ublished" not in other
    unseen = {"name": UNSEEN, "unseen": [[1], [2]]}
    other = render(result | {"protocol": result["protocol"] | unseen}, cifar)
    assert "ublished" not in other


def test_the_protocol_is_described(mine: Dataset, page: str) -> None:
    text = Reader(page).text
    assert "from each of the seeds 0 and 1, 5 items of each class are queries (20 in all)" in text
    assert "100 items are the database, where 10 of each class carry a label" in text
    assert "Scaled down from 100 queries and 200 labels per class: the smallest" in text
    result = measured(mine, "lsh", seeds=(3,), protocol=UNSEEN)
    (unseen,) = result["protocol"]["unseen"]
    text = Reader(render(result, mine)).text
    assert f"Unseen, without a label in fit: {NAMES[unseen[0]]} (seed 3)." in text
    assert "from seed 3, 5 items of each unseen class are queries (5 in all)" in text
    assert "100 items are the database, where 10 of each other class carry a label" in text
    result = measured(mine, "lsh", seeds=(3,), protocol=UNSEEN_ONLY)
    assert len(result["protocol"]["unseen"][0]) == 2
    text = Reader(render(result, mine)).text
    assert "5 items of each unseen class are queries (10 in all) and 50 items of the same" in text
    assert "fit sees 50 items of the other classes, where 10 of each class carry a label" in text


def test_a_failed_row_shows_its_error(result: dict[str, Any], mine: Dataset) -> None:
    *kept, last = result["results"]
    failed = {"method": last["method"], "n_bits": last["n_bits"], "error": "too few anchors"}
    page = render(result | {"results": [*kept, failed]}, mine)
    assert Reader(page).row("random-net-2", 16)["mAP %"] == "too few anchors"
    assert "random-net-2" in lines(figures(page)[0])
    for kind in ("against recall", "among the first", "within"):
        shown = curves_at(page, f"Precision {kind}")
        assert "random-net-2" in lines(shown[8])
        assert "random-net-2" not in lines(shown[16])


@pytest.mark.parametrize(
    ("methods", "bits", "seeds", "n_figures"),
    [
        ("raw", (8,), (0,), 2),
        ("raw raw-cosine classifier", (8,), (0,), 2),
        ("lsh", (8,), (0,), 4),
        ("lsh", (1, 2, 3, 4, 5, 6, 7, 8, 9), (0,), 16),
        ("raw lsh classifier", (8, 16), (0, 1, 2), 7),
    ],
)
def test_small_and_large_results(
    methods: str, bits: tuple[int, ...], seeds: tuple[int, ...], n_figures: int
) -> None:
    plain = make_dataset(classes=3, pictures=False)
    page = render(measured(plain, methods, bits, seeds), plain)
    reader = Reader(page)
    assert len(figures(page)) == n_figures
    assert ("± seeds" in reader.table[0]) == (len(seeds) > 1)
    assert ("P r≤2" in reader.table[0]) == (methods not in ("raw", "raw raw-cosine"))
    assert not reader.strips
    assert "First neighbours" not in page


def test_undefined_figures_are_blank(result: dict[str, Any], mine: Dataset) -> None:
    bare = [
        {**row, "recall_radius_2": math.nan, "curve": [[math.nan] * 2] * len(row["curve"])}
        for row in result["results"]
    ]
    bare[0]["queries_without_relevant"] = 3
    page = render(result | {"results": bare}, mine)
    assert "nan" not in Reader(page).text
    assert "3 queries have no relevant item" in page
    assert len(figures(page)) == 3  # mAP, and precision within a radius at two lengths


def test_the_same_result_gives_the_same_page(result: dict[str, Any], page: str) -> None:
    assert render(json.loads(json.dumps(result)), make_dataset()) == page
